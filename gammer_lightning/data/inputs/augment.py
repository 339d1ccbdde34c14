"""Photometric augmentation of training clips; the only file that knows albumentations.

2.0.8 is its last MIT release, no longer maintained: a successor would be swapped in here.
"""

import os

import numpy as np

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else its import asks the network for a newer one

import albumentations as A


class PhotometricAugmentation:
    """Brightness, contrast and colour, one draw for everything that is passed in one call.

    Args:
        brightness: Largest change, as a fraction of the full range.
        contrast: Largest relative change.
        colour: Largest shift of each channel, grey levels of 255.
    """

    def __init__(self, brightness: float = 0.2, contrast: float = 0.2, colour: float = 10):
        shift = (-colour, colour)
        self.transform = A.Compose(
            [
                A.RandomBrightnessContrast(brightness, contrast, p=1),
                A.RGBShift(shift, shift, shift, p=1),
            ]
        )

    def __call__(self, patches: np.ndarray, seed: int) -> np.ndarray:
        """Change all patches of a clip in the same way.

        They are stacked into one tall image, so the library draws once, whatever their number or frame.

        Args:
            patches: uint8 RGB ``(..., P, P, 3)``.
            seed: Seed of the draw.
        """
        self.transform.set_random_seed(seed)
        tall = patches.reshape(-1, patches.shape[-2], 3)
        return self.transform(image=tall)["image"].reshape(patches.shape)
