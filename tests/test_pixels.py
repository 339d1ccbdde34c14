"""Images as arrays of uint8, and as tensors in [0, 1]."""

import numpy as np
import torch

from gammer_lightning.pixels import to_floats, to_signed_floats, to_uint8


def test_every_grey_level_comes_back_and_channels_move():
    images = np.arange(256, dtype=np.uint8).repeat(3).reshape(2, 8, 16, 3) + np.array([0, 1, 2], np.uint8)
    images.flags.writeable = False  # as Pillow returns them
    frames = to_floats(images)
    assert frames.shape == (2, 3, 8, 16) and frames.dtype == torch.float32
    assert torch.equal(frames[1, 2], torch.from_numpy(images[1, ..., 2] / np.float32(255)))
    assert np.array_equal(to_uint8(frames), images)
    assert torch.equal(to_floats(torch.tensor(images)), frames)


def test_signed_levels_are_those_from_0_to_1_stretched_and_contiguous():
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(2, 8, 16, 3)
    signed = to_signed_floats(torch.tensor(levels))
    assert torch.equal(signed, to_floats(levels) * 2 - 1) and signed.is_contiguous()


def test_values_beyond_the_range_are_cut_off_and_others_rounded():
    frame = torch.tensor([-0.5, 0.4999 / 255, 0.5001 / 255, 1.5]).expand(3, 1, 4)
    assert to_uint8(frame)[0].tolist() == [[0] * 3, [0] * 3, [1] * 3, [255] * 3]
