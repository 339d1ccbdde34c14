"""Photographs and cut-outs that the motion generator composes its scenes from.

Sources are folders of images (a file with transparency is a cut-out) or one of the embedded sets:
``embedded`` (photographs inside scikit-image and scikit-learn plus procedural textures) and ``embedded-test``
(others of them, kept for tests: two of these show the faces that microfaces animates).
"""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from gammer_lightning.errors import GammerError

MAX_SIDE = 900  # px; larger photographs are reduced on loading, which also averages away their noise and JPEG blocks
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
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


class ImageSources:
    """Loaded photographs and cut-outs.

    Args:
        sources: Folders, searched recursively, or the names of embedded sets.

    Attributes:
        photographs: uint8 arrays ``(H, W, 3)``, sRGB.
        cutouts: uint8 arrays ``(H, W, 4)``, sRGB and mask; superpixels of the photographs and transparent images.

    Raises:
        GammerError: A folder is missing or holds no photograph, or a file cannot be read.
    """

    def __init__(self, sources: Sequence[str]) -> None:
        images = [image for source in sources for image in _load(source)]
        self.photographs = [image for image in images if image.shape[2] == 3]
        if not self.photographs:
            raise GammerError(
                f"no photographs in {', '.join(map(str, sources)) or 'an empty list of sources'}",
                "scenes need at least one image without transparency",
                "name folders of images in data.sources, or use 'embedded'",
            )
        self.cutouts = [image for image in images if image.shape[2] == 4]
        self.cutouts += [cutout for photo in self.photographs for cutout in superpixels(photo)]


def _load(source: str) -> list[np.ndarray]:
    if source in _EMBEDDED:
        textures = procedural_textures(seed=len(source))
        return textures + [
            read_rgba(Path(str(files(package).joinpath(name))))
            for package, names in _EMBEDDED[source]
            for name in names.split()
        ]
    folder = Path(source)
    if not folder.is_dir():
        raise GammerError(
            f"no folder {folder}",
            "a source is a folder of images or an embedded set",
            f"known sets: {', '.join(_EMBEDDED)}",
        )
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise GammerError(
            f"no images in {folder}", f"files ending in {', '.join(sorted(SUFFIXES))}", "name another folder"
        )
    return [read_rgba(path) for path in paths]


def read_rgba(path: Path) -> np.ndarray:
    """Read an image: ``(H, W, 4)`` uint8 where it has transparency, else ``(H, W, 3)``; the longer side at most 900 px.

    Raises:
        GammerError: The file is not an image, or truncated.
    """
    try:
        with Image.open(path) as image:
            image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BOX)
            return np.array(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise GammerError(f"cannot read {path}: {error}", "a whole image file", "remove or replace it") from error


def superpixels(photo: np.ndarray, count: int = 24, keep: int = 6) -> list[np.ndarray]:
    """Cut the ``keep`` largest superpixels that do not touch the border out of a photograph, as ``(h, w, 4)``."""
    from skimage.measure import regionprops
    from skimage.segmentation import slic

    small = cv2.resize(photo, (256, 256), interpolation=cv2.INTER_AREA)
    regions = regionprops(slic(small, n_segments=count, compactness=8, start_label=1))
    inner = [r for r in regions if min(r.bbox[:2]) > 0 and max(r.bbox[2:]) < 256]
    return [_cut(photo, region) for region in sorted(inner, key=lambda r: -r.area)[:keep]]


def _cut(photo: np.ndarray, region) -> np.ndarray:
    scale = np.array(photo.shape[:2]) / 256
    top, left = (np.array(region.bbox[:2]) * scale).astype(int)
    bottom, right = (np.array(region.bbox[2:]) * scale).astype(int)
    mask = cv2.resize(region.image.astype(np.uint8) * 255, (int(right - left), int(bottom - top)))
    return np.dstack([photo[top:bottom, left:right], mask])


def procedural_textures(seed: int, count: int = 12, side: int = 512) -> list[np.ndarray]:
    """Coloured noise of several roughnesses, ``(side, side, 3)`` uint8: content no photograph set covers."""
    rng = np.random.default_rng(seed)
    return [_coloured_noise(rng, side, rng.uniform(0.6, 2.2)) for _ in range(count)]


def _coloured_noise(rng: np.random.Generator, side: int, roughness: float) -> np.ndarray:
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)) + 1 / side
    spectrum = np.fft.rfft2(rng.standard_normal((3, side, side))) / frequency**roughness
    noise = np.fft.irfft2(spectrum, (side, side))
    noise = np.einsum("ij,jhw->hwi", rng.standard_normal((3, 3)), noise / noise.std((1, 2), keepdims=True))
    return np.clip(rng.uniform(60, 190, 3) + rng.uniform(15, 40) * noise, 0, 255).astype(np.uint8)
