"""What a network may be shown of a clip, and where it comes from: the cache of inputs, or the pre-magnified images."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from gammer_lightning.data.clips.clip import Clip
from gammer_lightning.data.inputs.face_clip import TV_L1, FaceClip, FacePair, recorded
from gammer_lightning.data.inputs.patches import apex_and_difference, difference
from gammer_lightning.data.premagnify.cache import RAW, CacheEntry, image_name
from gammer_lightning.data.resumable import process_map
from gammer_lightning.errors import GammerError
from gammer_lightning.files import read_npz, replacing, write_error
from gammer_lightning.models.recognizer import SEQUENCE
from gammer_lightning.pixels import to_signed_floats


@dataclass(frozen=True)
class Input:
    """A kind of input.

    Attributes:
        function: Module of ``gammer_lightning.data.inputs`` and function that computes it from a `FaceClip` and a size.
        shape: Shape of one clip's, as networks are shown it, for a size.
        is_picture: Whether it is uint8 RGB, and not float32; only pictures are augmented.
        convert: What networks are shown of a batch of pictures; None where the pictures are ``(K, S, S, 3)`` and shown
            as float ``(K, 3, S, S)`` in [-1, 1]. Values that are no pictures are shown as they are.
        size_setting: The DataModule's setting that is the size.
        is_cached: Whether it is computed once and has a file of its own; what is not is cut from the pre-magnified
            images in a moment, and its function needs no more than a `FacePair`.
        version: Raise it when a change of the function changes its values.
        is_of_recording: Whether it is of the recorded frames from onset to offset, which are not magnified.
        is_of_flow: Whether it is of the flow that ``data.flow_estimator`` estimates.
    """

    function: str
    shape: Callable[[int], tuple[int, ...]]
    is_picture: bool = False
    convert: Callable[[torch.Tensor], torch.Tensor] | None = None
    size_setting: str = "size"
    is_cached: bool = True
    version: int = 1
    is_of_recording: bool = False
    is_of_flow: bool = False

    def compute(self, clip: FaceClip | FacePair, size: int) -> np.ndarray:
        """Compute it for a clip."""
        module, _, name = self.function.rpartition(".")
        return getattr(import_module(f"gammer_lightning.data.inputs.{module}"), name)(clip, size)

    def network_input(self, values: torch.Tensor) -> torch.Tensor:
        """Return what networks are shown of computed values ``(B, ...)``: float32 ``(B, *shape)``."""
        if not self.is_picture:
            return values
        if self.convert:
            return self.convert(values)
        return to_signed_floats(values)

    def is_valid(self, values: np.ndarray, size: int) -> bool:
        """Return whether values are finite and have the type and shape of this input."""
        channels_first = np.moveaxis(values, -1, 1) if self.is_picture and values.ndim == 4 else values
        dtype = np.uint8 if self.is_picture else np.float32
        return values.dtype == dtype and channels_first.shape == self.shape(size) and bool(np.isfinite(values).all())


_patches = partial(Input, is_picture=True, size_setting="patch_size", is_cached=False)
_pair_patches = partial(_patches, "patches.onset_and_apex_patches")
INPUTS = {
    "apex": _patches("patches.apex_patches", lambda size: (68, 3, size, size)),
    "difference": _pair_patches(lambda size: (68, 3, size, size), convert=difference),
    "both": _pair_patches(lambda size: (68, 6, size, size), convert=apex_and_difference),
    "image": Input("frames.apex_image", lambda size: (1, 3, size, size), is_picture=True),
    "pair": Input("frames.onset_and_apex", lambda size: (2, 3, size, size), is_picture=True),
    "flow": Input("flow.flow_and_strain", lambda size: (3, size, size), is_of_flow=True),
    "two_phase_flow": Input("flow.two_phase_flow", lambda size: (6, size, size), is_of_recording=True, is_of_flow=True),
    "flow_patches": Input("flow_patches.flow_patches", lambda size: (68, 6, size, size), is_of_flow=True),
    "lbp_top": Input("lbp.lbp_top", lambda size: (4425,), is_of_recording=True),
    "lbp_sip": Input("lbp.lbp_sip", lambda size: (500,), is_of_recording=True),
    "stlbp_ip": Input("lbp.stlbp_ip", lambda size: (15750,), is_of_recording=True),
    "bi_woof": Input("bi_woof.bi_woof", lambda size: (200,), is_of_flow=True),
    "mdmo": Input("mdmo.mdmo", lambda size: (72,), is_of_recording=True),
    "sequence": Input("frames.sequence", lambda size: (SEQUENCE, 3, size, size), is_picture=True, is_of_recording=True),
}
"""Value of ``data.input``."""


SHORTEST = 3
"""Fewest recorded frames of an input that is of them."""


def refuse_short(clips: Sequence[Clip], name: str) -> None:
    """Refuse clips that are too short for an input that is of the recorded frames, before a frame is read.

    Args:
        clips: The clips.
        name: Key of `INPUTS`.

    Raises:
        GammerError: Naming a clip with fewer than `SHORTEST` frames.
    """
    short = [clip for clip in clips if len(recorded(clip)) < SHORTEST] if INPUTS[name].is_of_recording else []
    if short:
        more = f" (and {len(short) - 1} other clips are as short)" if len(short) > 1 else ""
        raise GammerError(
            f"clip {short[0].key} has {len(recorded(short[0]))} frames from onset to offset{more}",
            f"data.input {name} needs {SHORTEST} or more",
            "leave it out of the coding workbook, or choose another data.input",
        )


def compute_inputs(clips: Sequence[FaceClip], name: str, size: int) -> None:
    """Compute what the cache lacks, in as many processes as torch has threads, with a progress bar.

    Args:
        clips: Clips, each at one alpha.
        name: Key of `INPUTS`.
        size: Side of a face in px.

    Raises:
        GammerError: If the input of a clip cannot be computed; the others are computed before it is raised.
    """
    uncached = [clip for clip in clips if _cached(clip, name, size) is None]
    workers = min(torch.get_num_threads(), len(uncached))
    with process_map(workers, partial(cv2.setNumThreads, 1)) as run:
        results = run(partial(_attempt, name, size), uncached)
        errors = list(tqdm(results, f"{name} inputs", len(uncached), unit="clip", disable=not uncached))
    if failed := [error for error in errors if error]:
        what, rule, next_step = failed[0]
        more = f" (and {len(failed) - 1} other clips)" if len(failed) > 1 else ""
        raise GammerError(f"{what}{more}", rule, next_step)


def read_inputs(clips: Sequence[FaceClip], name: str, size: int) -> np.ndarray:
    """Return the input of every clip from the cache ``(n, ...)``.

    Raises:
        GammerError: If one is missing or damaged.
    """
    return np.stack([_read(clip, name, size) for clip in clips])


def cut_inputs(entries: Sequence[CacheEntry], alphas: Sequence[float], name: str, size: int) -> np.ndarray:
    """Return an input that is not cached, of every clip at every alpha ``(n, A, ...)``.

    Args:
        entries: The clips' entries in the pre-magnification cache.
        alphas: The A magnification factors.
        name: Key of `INPUTS`.
        size: Side of a patch in px.

    Raises:
        GammerError: If an image is missing or damaged.
    """
    kind = INPUTS[name]

    def cut(entry: CacheEntry) -> list[np.ndarray]:
        onset, *apexes = entry.images(alphas)
        landmarks = entry.landmarks()
        return [kind.compute(FacePair((onset, apex), landmarks), size) for apex in apexes]

    with ThreadPoolExecutor() as pool:
        return np.array(list(pool.map(cut, entries)))


def _read(clip: FaceClip, name: str, size: int) -> np.ndarray:
    values = _cached(clip, name, size)
    if values is None:
        path = _file(clip, name, size)
        raise GammerError(f"{path} is missing or damaged", "it is computed before it is used", "run the same again")
    return values


def _attempt(name: str, size: int, clip: FaceClip) -> tuple[str, str, str] | None:
    """Compute and keep one clip's input; return the parts of an error, which would lose them between processes."""
    try:
        path = _file(clip, name, size)
        values = INPUTS[name].compute(clip, size)
        if not INPUTS[name].is_valid(values, size):
            raise GammerError(
                f"the {name} of {clip.key} is {values.dtype} {values.shape}, or not finite",
                f"inputs are finite and shown as {INPUTS[name].shape(size)}",
                "report it",
            )
        with replacing(path, sync=False) as temporary, temporary.open("wb") as file:
            np.savez(file, input=values, key=_key(clip, path))
    except GammerError as error:
        return error.what, error.rule, error.next_step
    except OSError as error:
        refusal = write_error(clip.entry.folder, error)
        return refusal.what, refusal.rule, refusal.next_step
    return None


def _cached(clip: FaceClip, name: str, size: int) -> np.ndarray | None:
    """Return an input that the cache holds; None where it is missing, damaged or another clip's."""
    path = _file(clip, name, size)
    max_bytes = 4 * math.prod(INPUTS[name].shape(size)) + 2**16  # float32, the key and the headers
    try:
        arrays = read_npz(path, max_bytes)
    except GammerError:
        return None
    if arrays.keys() != {"input", "key"} or str(arrays["key"]) != _key(clip, path):
        return None
    return arrays["input"] if INPUTS[name].is_valid(arrays["input"], size) else None


def _key(clip: FaceClip, path: Path) -> str:
    """Return what an input is computed from: the entry's frames, magnifier and crop, kind, size, alpha or frames."""
    return f"{clip.entry.key} {path.stem}"


def _file(clip: FaceClip, name: str, size: int) -> Path:
    """Return where an input is kept: beside the images of its clip, whose folder is named after their content."""
    kind = INPUTS[name]
    content = clip.recording if kind.is_of_recording else Path(image_name(clip.alpha)).stem
    if kind.is_of_flow and clip.flow_estimator != TV_L1:
        name = f"{name}-{clip.flow_estimator}"
    return clip.entry.folder / f"{name}-{kind.version}-{size}-{content}.npz"


def check_input(name: str, alphas: Sequence[float], flow_estimator: str) -> None:
    """Refuse an input that cannot be had here, or not at these alphas.

    Raises:
        GammerError: If an input that is of the recorded frames is asked for at an alpha other than 1, or OpenCV lacks
            its contributed modules for one that is of TV-L1 flow.
    """
    if INPUTS[name].is_of_flow and flow_estimator == TV_L1:
        import_module("gammer_lightning.data.inputs.flow").need_optflow()
    if INPUTS[name].is_of_recording and set(alphas) != {RAW}:
        raise GammerError(
            f"data.input {name} at alphas {', '.join(f'{alpha:g}' for alpha in alphas)}",
            "it is of the recorded frames, which are not magnified",
            "set data.eval_alpha to 1 and data.train_alphas to [1]",
        )
