"""Oh et al.'s published motion pairs: a reader of the layouts they go round in.

A sample is four images and a factor. The names mislead: frameA is the first frame and frameC the second, but frameB is
the second frame in other colours, and ``amplified``, the magnified frame, has frameB's colours and not frameA's.

Source: Oh et al., Learning-based Video Motion Magnification, ECCV 2018, Sec. 3.3; the authors' tfrecords converter
(layout, ``amplification_factor``) and their answers of November 2018 to issues 3 and 4 of 12dmodel/deep_motion_mag.
"""

import math
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

from gammer_lightning.data.motion.colour import linear_to_srgb, srgb_to_linear
from gammer_lightning.errors import GammerError
from gammer_lightning.files import read_image, read_json, read_text

FRAMES = ("frameA", "frameB", "frameC", "amplified")
FOLDERS = (FRAMES, ("2/frameA", "3/frameB", "4/frameC", "1/amplified"))
FACTORS = "train_mf.txt"
META_KEY = "amplification_factor"


class PublishedPairs(Dataset):
    """The published set, or one in its layout, by position.

    Below the root or its folder ``train`` lie ``frameA``, ``frameB``, ``frameC`` and ``amplified``, or ``2/frameA``,
    ``3/frameB``, ``4/frameC`` and ``1/amplified``, with images ``000000.png``, ... numbered from 0 or 1. The factors
    are the lines of ``train_mf.txt``, in the frames' folder or beside it, or else in ``meta/000000.json``, ...

    The factor needs no conversion: the authors' network adds ``factor - 1`` times the difference to the second frame,
    so ``amplified`` has moved from frameA ``factor`` times as far as frameC, which is our alpha.

    Args:
        root: Folder of the set.

    Raises:
        GammerError: The layout is another, files are missing, or a factor is no number.
    """

    def __init__(self, root: str | Path) -> None:
        base, self.folders = _find_folders(Path(root))
        numbered = [_numbered(folder, ".png") for folder in self.folders]
        numbers = _shared_numbers(self.folders, numbered)
        self.names = [[names[number] for number in numbers] for names in numbered]
        self.factors = _read_factors(base, numbers)
        self.shape = read_image(self.folders[0] / self.names[0][0]).shape

    def __len__(self) -> int:
        return len(self.factors)

    def frames(self, index: int) -> dict[str, np.ndarray]:
        """The four images of a sample by their published names, uint8 ``(H, W, 3)``.

        Raises:
            GammerError: One cannot be read, or has another size than the first of the set.
        """
        paths = [folder / names[index] for folder, names in zip(self.folders, self.names, strict=True)]
        images = [read_image(path) for path in paths]
        for path, image in zip(paths, images, strict=True):
            if image.shape != self.shape:
                raise GammerError(
                    f"{path} has {image.shape[1]}x{image.shape[0]} px, the set began with "
                    f"{self.shape[1]}x{self.shape[0]}",
                    "all frames of a set have one size",
                    "extract or download it again",
                )
        return dict(zip(FRAMES, images, strict=True))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """A sample in the terms of `gammer_lightning.data.motion.render.render`, without displacement.

        Returns:
            ``onset`` (frameA), ``apex`` (frameC), ``perturbed`` (frameB), ``perturbed_magnified`` (amplified),
            ``magnified`` (see `recover_colours`): float32 ``(3, H, W)`` in [0, 1], sRGB; ``alpha``, a scalar.
        """
        images = {name: torch.tensor(image.transpose(2, 0, 1)) for name, image in self.frames(index).items()}
        onset = images["frameA"]
        perturbed = images["frameB"]
        apex = images["frameC"]
        amplified = images["amplified"]
        return dict(
            onset=onset / 255,
            apex=apex / 255,
            perturbed=perturbed / 255,
            perturbed_magnified=amplified / 255,
            magnified=recover_colours(perturbed, apex, amplified),
            alpha=torch.tensor(self.factors[index], dtype=torch.float32),
        )


class RandomCrops(Dataset):
    """Square crops of published pairs: index ``epoch * len(pairs) + number`` has a place of its own in pair ``number``.

    Args:
        pairs: The set.
        size: Side of a crop in px.
        seed: Same seed and index, same crop.

    Raises:
        GammerError: The frames are smaller than a crop.
    """

    def __init__(self, pairs: PublishedPairs, size: int, seed: int) -> None:
        self.pairs = pairs
        self.size = size
        self.seed = seed
        height, width, _ = pairs.shape
        if size > min(height, width):
            raise GammerError(
                f"crops of {size} px from published frames of {width}x{height} px",
                "a crop lies inside the frame",
                f"--data.size={min(height, width)} or less",
            )

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """See `PublishedPairs.__getitem__`; H and W are ``size``."""
        rng = np.random.default_rng([self.seed, index])
        height, width, _ = self.pairs.shape
        top = rng.integers(height - self.size + 1)
        left = rng.integers(width - self.size + 1)
        window = (..., slice(top, top + self.size), slice(left, left + self.size))
        pair = self.pairs[index % len(self)]
        return {name: value[window] if value.ndim else value for name, value in pair.items()}


class ShuffledFiles(DistributedSampler):
    """Indices of `RandomCrops`: every file once in an epoch over all devices, in an order and places of its own."""

    dataset: RandomCrops

    def __iter__(self) -> Iterator[int]:
        return (self.epoch * len(self.dataset) + number for number in super().__iter__())


def recover_colours(perturbed: Tensor, clean: Tensor, amplified: Tensor) -> Tensor:
    """Give ``amplified`` the colours of the clean frames, which the published set does not hold.

    ``perturbed`` (frameB) and ``clean`` (frameC) show the same scene at the same moment, so the affine map of colours
    between them, fitted by least squares without the pixels that are clipped in either, undoes the perturbation of
    ``amplified``. It is fitted in linear light and in sRGB, since the set does not say where it was perturbed, and the
    one that explains ``clean`` better is taken.

    The target is not exact. On 80 generated pairs it is .24 grey levels off on average where ``amplified`` is not
    clipped, about the rounding of 8 bits, and .55 in pairs with noise (at worst 5, where few pixels are left to fit);
    ``amplified`` itself is 11 off, and a fit in sRGB alone leaves .9. What is clipped in ``amplified``, one pixel in
    six there, cannot be recovered: with it the averages are 1.1 and 1.4. How close it comes on the published files,
    whose perturbation is not documented, was not measured.

    Args:
        perturbed: uint8 ``(3, H, W)``, sRGB.
        clean: The same scene in its own colours.
        amplified: Another scene in perturbed colours.

    Returns:
        float32 ``(3, H, W)`` in [0, 1], sRGB.
    """
    both = torch.stack([perturbed, clean])
    is_inside = ((both > 0) & (both < 255)).all(0).all(0)
    observed = perturbed[:, is_inside]
    truth = clean[:, is_inside]
    levels = torch.arange(256) / 255
    srgb_error, recolour_srgb = _fit(levels, partial(torch.clamp, min=0, max=1), observed, truth)
    linear_error, recolour_linear = _fit(srgb_to_linear(levels), linear_to_srgb, observed, truth)
    recolour = recolour_linear if linear_error < srgb_error else recolour_srgb
    return recolour(amplified)


def _fit(
    levels: Tensor, to_srgb: Callable, observed: Tensor, truth: Tensor
) -> tuple[float, Callable[[Tensor], Tensor]]:
    """Fit a map from colours ``observed`` to ``truth``, ``(3, N)`` uint8; return its mean error and the map.

    A pull towards the identity, as weak as the rounding of 8 bits, decides about colours that the frame does not show.
    """
    x = levels[observed.int()].double()
    y = levels[truth.int()].double()
    x = torch.cat([x, torch.ones_like(x[:1])])
    pull = 1e-6 * (1 + x.shape[1]) * torch.eye(4, dtype=torch.double)
    solution = torch.linalg.solve(x @ x.mT + pull, x @ y.mT + pull[:, :3])
    matrix = solution.mT.float()

    def recolour(frame: Tensor) -> Tensor:
        mixed = torch.einsum("ij,j...->i...", matrix[:, :3], levels[frame.int()])
        shift = matrix[:, 3].view(3, *[1] * (frame.ndim - 1))
        return to_srgb(mixed + shift)

    error = (recolour(observed) - truth / 255).abs().mean()
    return float(error), recolour


def _find_folders(root: Path) -> tuple[Path, list[Path]]:
    """The folder that holds the frames' folders, and these in the order of `FRAMES`."""
    for base in (root / "train", root):
        for layout in FOLDERS:
            if all((base / place).is_dir() for place in layout):
                return base, [base / place for place in layout]
    raise GammerError(
        f"no published motion pairs in {root}: it holds {_contents(root)}",
        f"the set has the folders {', '.join(FOLDERS[0])} (or {', '.join(FOLDERS[1])}), in train/ or not",
        "name its folder in data.published, or write such a set: gammer data synthesize-motion --out DIR --samples N",
    )


def _contents(root: Path) -> str:
    """What is there, for an error: a few names, and those in train/."""
    if not root.is_dir():
        return "nothing: there is no such folder"
    paths = [*root.iterdir(), *root.glob("train/*")]
    names = sorted(path.relative_to(root).as_posix() for path in paths)
    if len(names) > 12:
        names = [*names[:12], "..."]
    return ", ".join(names) or "nothing"


def _numbered(folder: Path, suffix: str) -> dict[int, str]:
    """The files that are named by a number; names, since a path each would fill memory in a set of 100,000."""
    stems = (name.removesuffix(suffix) for name in sorted(os.listdir(folder)) if name.endswith(suffix))
    files: dict[int, str] = {}
    for stem in stems:
        if stem.isdecimal() and files.setdefault(int(stem), stem + suffix) != stem + suffix:
            raise GammerError(
                f"{folder} has number {int(stem)} twice: {files[int(stem)]} and {stem}{suffix}",
                "a sample has one file in each folder",
                "remove one of them",
            )
    return files


def _shared_numbers(folders: list[Path], numbered: list[dict[int, str]]) -> list[int]:
    """The numbers of the samples in order; each must be in all folders."""
    numbers = numbered[0].keys()
    for folder, files in zip(folders, numbered, strict=True):
        odd = sorted(files.keys() ^ numbers)
        if odd:
            raise GammerError(
                f"{folder} has {len(files)} images, {folders[0]} has {len(numbers)}; number {odd[0]} is in one alone",
                "every sample has an image in all four folders",
                "extract or download the missing ones again",
            )
    if not numbers:
        raise GammerError(
            f"no images in {folders[0]}", "they are named 000000.png, 000001.png, ...", "extract the set again"
        )
    return sorted(numbers)


def _read_factors(base: Path, numbers: list[int]) -> list[float]:
    folders = (base, base.parent)
    for folder in folders:
        if (folder / FACTORS).is_file():
            return _text_factors(folder / FACTORS, numbers)
    for folder in folders:
        if (folder / "meta").is_dir():
            return _meta_factors(folder / "meta", numbers)
    raise GammerError(
        f"no magnification factors in {base}",
        f"they are in {FACTORS}, a line a sample, or in meta/000000.json, ...",
        f"put {FACTORS} of the set into {base}, or let `gammer data synthesize-motion` finish writing it",
    )


def _text_factors(path: Path, numbers: list[int]) -> list[float]:
    lines = read_text(path).split()
    if len(lines) != len(numbers) or numbers[0] > 1 or numbers[-1] - numbers[0] >= len(numbers):
        raise GammerError(
            f"{path} has {len(lines)} factors for {len(numbers)} samples numbered {numbers[0]} to {numbers[-1]}",
            "a line a sample, and samples are numbered from 0 or 1 without gaps",
            "download what is missing again",
        )
    return [_factor(text, f"{path}, line {number},") for number, text in enumerate(lines, 1)]


def _meta_factors(folder: Path, numbers: list[int]) -> list[float]:
    files = _numbered(folder, ".json")
    odd = sorted(files.keys() ^ set(numbers))
    if odd:
        raise GammerError(
            f"{folder} has {len(files)} files for {len(numbers)} samples; number {odd[0]} is in one alone",
            "every sample has a file of its own there",
            "extract it again",
        )
    return [_meta_factor(folder / files[number]) for number in numbers]


def _meta_factor(path: Path) -> float:
    record = read_json(path)
    keys = record.keys() if isinstance(record, dict) else ()
    if META_KEY not in keys:
        raise GammerError(
            f"{path} has no {META_KEY!r}; its keys: {', '.join(keys) or 'none'}",
            "the factor has this name in the authors' files",
            f"take the factors from {FACTORS}: put it into {path.parent.parent}",
        )
    return _factor(record[META_KEY], str(path))


def _factor(value: Any, where: str) -> float:
    try:
        factor = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        factor = math.nan
    if not 0 <= factor < math.inf:
        raise GammerError(
            f"{where} has the factor {str(value)[:80]!r}", "a number of 0 or more", "download the file again"
        )
    return factor
