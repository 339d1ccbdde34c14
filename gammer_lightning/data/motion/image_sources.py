"""Photographs and cut-outs that the motion generator composes its scenes from.

Sources are folders of images (a file with transparency is a cut-out), PASCAL VOC (its JPEGImages, and the objects of
its SegmentationObject as cut-outs) or one of the embedded sets: ``embedded`` (photographs inside scikit-image and
scikit-learn plus procedural textures) and ``embedded-test`` (others of them, kept for tests: two of these show the
faces that microfaces animates).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from importlib.resources import files
from itertools import chain
from pathlib import Path

import cv2
import numpy as np

from gammer_lightning.errors import GammerError
from gammer_lightning.files import IMAGE_SUFFIXES, image_files, load_image, open_image, read_image

MAX_SIDE = 900  # px; larger photographs are reduced on loading, which also averages away their noise and JPEG blocks
IN_MEMORY = 1000  # images of a folder; a larger one is read as its images are needed
SMALLEST_OBJECT = 1000  # px of a VOC object; smaller ones would be blown up to blurs
SMALLEST_PHOTOGRAPH = 32  # px of a side
_EMBEDDED = {
    "embedded": (
        (
            "skimage.data",
            "coffee.png rocket.jpg motorcycle_left.png brick.png grass.png gravel.png camera.png coins.png",
        ),
        ("skimage.data", "hubble_deep_field.jpg retina.jpg ihc.png moon.png"),
        ("sklearn.datasets.images", "flower.jpg"),
    ),
    "embedded-test": (
        ("skimage.data", "astronaut.png chelsea.png"),
        ("sklearn.datasets.images", "china.jpg"),
        ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    ),
}


Picture = np.ndarray | Callable[[], np.ndarray]
"""A picture in memory, or a function that reads it."""


class Pictures:
    """Pictures by index: arrays in memory, and functions that read one each time it is asked for."""

    def __init__(self, items: Sequence[Picture]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> np.ndarray:
        item = self.items[index]
        return item() if callable(item) else item


class ImageSources:
    """Photographs and cut-outs, in memory or read as they are needed.

    A folder of more than 1,000 images is not read at start, so that COCO's 118,000 start at once; it gives the largest
    superpixel of 1,000 of its photographs as cut-outs, where a smaller folder gives up to six of each.

    Args:
        sources: Folders, searched recursively; folders that are, or hold, PASCAL VOC years; names of embedded sets.

    Attributes:
        photographs: uint8 arrays ``(H, W, 3)``, sRGB.
        cutouts: uint8 arrays ``(H, W, 4)``, sRGB and mask: transparent images, VOC objects, superpixels of photographs.

    Raises:
        GammerError: A folder is missing or holds no photograph, or a file cannot be read.
    """

    def __init__(self, sources: Sequence[str]) -> None:
        photographs: list[Picture] = []
        cutouts: list[Picture] = []
        superpixels: list[Picture] = []
        for source in sources:
            new_photographs, new_cutouts, new_superpixels = _load(source)
            photographs += new_photographs
            cutouts += new_cutouts
            superpixels += new_superpixels
        if not photographs:
            raise GammerError(
                f"no photographs in {', '.join(map(str, sources)) or 'an empty list of sources'}",
                "scenes need at least one image without transparency",
                "name folders of images in data.sources, or use 'embedded'",
            )
        self.photographs = Pictures(photographs)
        self.cutouts = Pictures(cutouts + superpixels)


def _load(source: str) -> tuple[list[Picture], list[Picture], list[Picture]]:
    """Photographs, cut-outs and superpixels of a source, as `Pictures` takes them."""
    years = _voc_years(source)
    if years:
        objects = chain.from_iterable(map(_voc_objects, years))
        return _voc_photographs(years), list(objects), []
    paths = source_files(source)
    if len(paths) > IN_MEMORY:
        return _on_demand(paths)
    images = procedural_textures(seed=len(source)) if source in _EMBEDDED else []
    images += [read_rgba(path) for path in paths]
    photographs = [image for image in images if image.shape[2] == 3]
    cutouts = [image for image in images if image.shape[2] == 4]
    cuts = chain.from_iterable(map(superpixels, photographs))
    return [*photographs], [*cutouts], [*cuts]


def source_files(source: str) -> list[Path]:
    """The image files of a source, in order.

    Raises:
        GammerError: There is no such source, or no image in it.
    """
    if source in _EMBEDDED:
        embedded: list[Path] = []
        for package, names in _EMBEDDED[source]:
            embedded += [Path(str(files(package).joinpath(name))) for name in names.split()]
        return embedded
    folder = Path(source)
    if not folder.is_dir():
        raise GammerError(
            f"no folder {folder}",
            "a source is a folder of images or an embedded set",
            f"known sets: {', '.join(_EMBEDDED)}",
        )
    paths = image_files(folder, recursive=True)
    if not paths:
        raise GammerError(
            f"no images in {folder}", f"files ending in {', '.join(IMAGE_SUFFIXES)}", "name another folder"
        )
    return paths


def _on_demand(paths: list[Path]) -> tuple[list[Picture], list[Picture], list[Picture]]:
    photographs: list[Path] = []
    transparent: list[Path] = []
    for path in paths:
        if _is_transparent(path):
            transparent.append(path)
        else:
            photographs.append(path)
    step = max(1, math.ceil(len(photographs) / IN_MEMORY))
    return (
        [partial(read_rgba, path) for path in photographs],
        [partial(read_rgba, path) for path in transparent],
        [partial(_largest_superpixel, path) for path in photographs[::step]],
    )


def _is_transparent(path: Path) -> bool:
    if path.suffix.lower() in (".jpg", ".jpeg", ".bmp"):
        return False
    with open_image(path) as image:
        return image.has_transparency_data


@lru_cache(IN_MEMORY)
def _largest_superpixel(path: Path) -> np.ndarray:
    photo = read_rgba(path)
    whole = np.dstack([photo, np.full(photo.shape[:2], 255, np.uint8)])
    return next(iter(superpixels(photo, keep=1)), whole)


def read_rgba(path: Path) -> np.ndarray:
    """Read an image: ``(H, W, 4)`` uint8 where it has transparency, else ``(H, W, 3)``; the longer side at most 900 px.

    Raises:
        GammerError: As in `load_image`, or a photograph has a side of less than 32 px.
    """
    image = load_image(path, MAX_SIDE)
    if image.has_transparency_data:
        return np.array(image.convert("RGBA"))
    if min(image.size) < SMALLEST_PHOTOGRAPH:
        raise GammerError(
            f"{path} has {image.width}x{image.height} px, reduced to {MAX_SIDE} px where it was larger",
            f"a photograph has {SMALLEST_PHOTOGRAPH} px or more on each side",
            "remove it from the source",
        )
    return np.array(image.convert("RGB"))


def _voc_years(source: str) -> list[Path]:
    """The folders of PASCAL VOC at or below a source, e.g. VOCdevkit/VOC2012."""
    years: list[Path] = []
    for pattern in ("SegmentationObject", "*/SegmentationObject", "*/*/SegmentationObject"):
        for masks in Path(source).glob(pattern):
            if (masks.parent / "JPEGImages").is_dir():
                years.append(masks.parent)
    return sorted(years)


def _voc_photographs(years: list[Path]) -> list[Picture]:
    paths: list[Path] = []
    for year in years:
        paths += source_files(str(year / "JPEGImages"))
    if len(paths) > IN_MEMORY:
        return [partial(read_rgba, path) for path in paths]
    return [read_rgba(path) for path in paths]


def _voc_objects(year: Path) -> Iterator[Callable[[], np.ndarray]]:
    """The objects of at least 1,000 px of a year of VOC, each a function that cuts it out."""
    for path in image_files(year / "SegmentationObject"):
        photo = year / "JPEGImages" / f"{path.stem}.jpg"
        areas = np.bincount(_object_numbers(path).ravel(), minlength=256)[1:255]  # 0 background, 255 unlabelled
        for number in np.flatnonzero(areas >= SMALLEST_OBJECT) + 1:
            yield partial(_voc_object, photo, path, int(number))


def _object_numbers(path: Path) -> np.ndarray:
    with open_image(path) as image:
        if image.mode not in ("P", "L"):
            raise GammerError(
                f"{path} has pixels of mode {image.mode}", "a palette PNG of object numbers", "replace it"
            )
        return np.array(image)


def _voc_object(photo: Path, numbers: Path, number: int) -> np.ndarray:
    mask = _object_numbers(numbers) == number
    image = read_image(photo)
    if image.shape[:2] != mask.shape:
        raise GammerError(f"{photo} and {numbers} differ in size", "a mask fits its photograph", "replace them")
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    window = (slice(y, y + height), slice(x, x + width))
    return np.dstack([image[window], mask[window] * np.uint8(255)])


def superpixels(photo: np.ndarray, count: int = 24, keep: int = 6) -> list[np.ndarray]:
    """Cut the ``keep`` largest superpixels that do not touch the border out of a photograph, as ``(h, w, 4)``."""
    from skimage.measure import regionprops
    from skimage.segmentation import slic

    small = cv2.resize(photo, (256, 256), interpolation=cv2.INTER_AREA)
    labels = slic(small, n_segments=count, compactness=8, start_label=1)
    inner = [region for region in regionprops(labels) if min(region.bbox[:2]) > 0 and max(region.bbox[2:]) < 256]
    largest = sorted(inner, key=lambda region: -region.area)[:keep]
    return [_cut(photo, region) for region in largest]


def _cut(photo: np.ndarray, region) -> np.ndarray:
    scale = np.array(photo.shape[:2]) / 256
    top, left = (np.array(region.bbox[:2]) * scale).astype(int)
    bottom, right = (np.array(region.bbox[2:]) * scale).astype(int)
    small_mask = region.image.astype(np.uint8) * 255
    mask = cv2.resize(small_mask, (int(right - left), int(bottom - top)))
    return np.dstack([photo[top:bottom, left:right], mask])


def procedural_textures(seed: int, count: int = 12, side: int = 512) -> list[np.ndarray]:
    """Coloured noise of several roughnesses, ``(side, side, 3)`` uint8: content no photograph set covers."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)) + 1 / side
    textures = []
    for _ in range(count):
        roughness = rng.uniform(0.6, 2.2)
        white = rng.standard_normal((3, side, side))
        spectrum = np.fft.rfft2(white) / frequency**roughness
        channels = np.fft.irfft2(spectrum, (side, side))
        channels = channels / channels.std((1, 2), keepdims=True)
        noise = np.einsum("ij,jhw->hwi", rng.standard_normal((3, 3)), channels)
        mean = rng.uniform(60, 190, 3)
        contrast = rng.uniform(15, 40)
        texture = np.clip(mean + contrast * noise, 0, 255).astype(np.uint8)
        textures.append(texture)
    return textures
