"""Portraits for microfaces: photographs in, one aligned, high-resolution neutral face per subject out.

By default the subjects are pseudo-subjects, morphed from the two public-domain portraits that come with
scikit-image and matplotlib; with a folder of photographs each subject is one photograph.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from matplotlib import get_data_path
from skimage.data import astronaut

from gammer_lightning.data.microfaces import warps
from gammer_lightning.errors import GammerError
from gammer_lightning.faces.alignment import detector, eye_centres, predictor
from gammer_lightning.faces.graph import MIRROR
from gammer_lightning.files import image_files, read_image

SOURCE_SCALE = 3  # a neutral face has 3 x 3 pixels per frame pixel, so that bilinear sampling stays sharp
FACE_SCORE = 0.5  # dlib's false alarms score below this, frontal faces well above it
# How far face shapes vary: landmarks, scale across and down (+- fraction), shift across and down (+- IOD).
SHAPE_RANGES = (
    (range(0, 17), 0.05, 0.04, 0.0, 0.02),
    (range(5, 12), 0.08, 0.08, 0.0, 0.05),
    (range(17, 27), 0.04, 0.10, 0.0, 0.05),
    (range(27, 36), 0.10, 0.06, 0.0, 0.03),
    (range(36, 42), 0.06, 0.10, 0.0, 0.01),
    (range(42, 48), 0.06, 0.10, 0.0, 0.01),
    (range(48, 68), 0.10, 0.12, 0.0, 0.04),
)


@dataclass(frozen=True)
class Photo:
    """A photograph ``(h, w, 3)`` uint8 with the landmarks ``(68, 2)`` of its one face, in px."""

    name: str
    pixels: np.ndarray
    landmarks: np.ndarray

    def mirrored(self) -> "Photo":
        """Return the photograph as in a mirror, its landmarks in dlib's order again."""
        landmarks = self.landmarks[list(MIRROR)] * [-1, 1] + [self.pixels.shape[1] - 1, 0]
        return Photo(self.name, np.ascontiguousarray(self.pixels[:, ::-1]), landmarks)


@dataclass(frozen=True)
class Framing:
    """Where a face sits in a frame of ``width`` x ``height`` px: as in CASME II's cropped faces."""

    width: int
    height: int

    @property
    def iod(self) -> float:
        """Interocular distance (between the eyes' centres) of an aligned face, in px."""
        return 0.37 * min(self.width, self.height * 280 / 340)

    @property
    def margin(self) -> int:
        """Pixels that a neutral face shows beyond each side of the frame, for motion to uncover."""
        return round(0.1 * self.width)

    @cached_property
    def pixels(self) -> np.ndarray:
        """Coordinates ``(height, width, 2)`` of every frame pixel, float32."""
        return np.stack(np.meshgrid(np.arange(self.width), np.arange(self.height)), -1).astype(np.float32)

    def to_source(self, places: np.ndarray) -> np.ndarray:
        """Turn frame coordinates into those of the neutral face (centres of pixels are whole numbers)."""
        return (places + np.float32(self.margin + 0.5)) * np.float32(SOURCE_SCALE) - np.float32(0.5)

    def alignment(self, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return scale-rotation ``(2, 2)`` and shift ``(2,)`` that bring a face's eyes to their place."""
        left, right = eye_centres(landmarks)
        across = (right - left) * self.iod / np.sum((right - left) ** 2)
        turn = np.array([[across[0], across[1]], [-across[1], across[0]]])
        return turn, np.array([self.width / 2, 0.36 * self.height]) - turn @ ((left + right) / 2)


def detect(image: np.ndarray) -> list[np.ndarray]:
    """Find the faces of an image ``(h, w, 3)`` uint8 and return their landmarks, each ``(68, 2)`` in px."""
    upsampling = 1 if max(image.shape) < 800 else 0
    boxes, scores, _ = detector().run(image, upsampling, 0.0)
    shapes = [predictor()(image, box) for box, score in zip(boxes, scores, strict=True) if score > FACE_SCORE]
    return [np.array([(point.x, point.y) for point in shape.parts()], dtype=float) for shape in shapes]


def embedded_photos() -> list[Photo]:
    """Return the two public-domain portraits: NASA's Eileen Collins, the US Navy's Grace Hopper."""
    hopper = read_image(Path(get_data_path()) / "sample_data" / "grace_hopper.jpg")
    images = {"scikit-image astronaut": astronaut(), "matplotlib grace_hopper": hopper}
    return [Photo(name, image, detect(image)[0]) for name, image in images.items()]


def folder_photos(folder: Path, count: int, seed: int, framing: Framing) -> list[Photo]:
    """Choose ``count`` photographs with exactly one detectable face, in an order drawn by ``seed``.

    The face must be detectable in the photograph and again in the aligned frame.

    Raises:
        GammerError: If the folder is missing or has too few usable photographs; it names the others.
    """
    if not folder.is_dir():
        raise GammerError(
            f"no folder of portraits at {folder}",
            "--portraits takes a folder of frontal photographs",
            "give such a folder, or leave --portraits out for the two embedded portraits",
        )
    files = image_files(folder)
    photos: list[Photo] = []
    unusable: list[str] = []
    for index in np.random.default_rng((seed, 0)).permutation(len(files)):
        if len(photos) == count:
            break
        try:
            photos.append(_read_photo(files[index], framing))
        except GammerError as error:
            unusable.append(error.what)
    if len(photos) < count:
        raise _too_few(folder, count, len(photos), unusable)
    return photos


def _read_photo(path: Path, framing: Framing) -> Photo:
    image = read_image(path)
    faces = detect(image)
    if len(faces) != 1:
        raise GammerError(f"{path.name}: {len(faces) or 'no'} faces found")
    photo = Photo(path.name, image, faces[0])
    if len(detect(visible(neutral_face(photo, framing), framing))) != 1:
        raise GammerError(f"{path.name}: no face found in its {framing.width}x{framing.height} frame")
    return photo


def _too_few(folder: Path, count: int, found: int, unusable: list[str]) -> GammerError:
    listed = "".join(f"\n    {reason}" for reason in unusable)
    return GammerError(
        f"{found} usable portraits in {folder} for {count} subjects" + (listed and f"; not usable:{listed}"),
        "each subject is one photograph with exactly one face that dlib detects",
        f"add photographs, or ask for fewer: --subjects {max(found, 1)}",
    )


def visible(source: np.ndarray, framing: Framing) -> np.ndarray:
    """Return the frame ``(height, width, 3)``, uint8, that shows a neutral face at rest."""
    return _to_bytes(warps.sample(source.astype(np.float32), framing.to_source(framing.pixels)))


def neutral_face(photo: Photo, framing: Framing) -> np.ndarray:
    """Align one photograph and return the neutral face, uint8, `SOURCE_SCALE` times the frame's size."""
    return _to_bytes(_render(photo, framing, _aligned(photo, framing)))


def pseudo_face(photos: list[Photo], framing: Framing, rng: np.random.Generator) -> np.ndarray:
    """Make up one neutral face from two photographs, uint8, `SOURCE_SCALE` times the frame's size.

    The face's shape lies between the two and is varied further. The lower face is mostly of the one or mostly
    of the other, mouth and all; eyes, hair and surroundings are of one: blended lips and spectacles are
    ghosts. Skin tone, light and skin texture vary.
    """
    ours, other = (photos[index] for index in rng.permutation(2))
    ours, other = (photo.mirrored() if rng.random() < 0.5 else photo for photo in (ours, other))
    own, others = (_aligned(photo, framing) for photo in (ours, other))
    shape = own + rng.uniform(0, 0.6) * (others - own)
    swap = rng.random() < 0.5
    shape[48:] = (others if swap else own)[48:]
    shape = _vary_shape(shape, framing, rng)
    face, second = _render(ours, framing, shape), _render(other, framing, shape)
    mask = _lower_face(shape, framing)
    share = rng.uniform(0.85, 1) if swap else rng.uniform(0, 0.25)
    face += share * mask * (_match_colour(second, face, mask) - face)
    return _to_bytes(_texture(_relight(_tone(face, mask, rng), rng), rng))


def _aligned(photo: Photo, framing: Framing) -> np.ndarray:
    turn, shift = framing.alignment(photo.landmarks)
    return photo.landmarks @ turn.T + shift


def _vary_shape(landmarks: np.ndarray, framing: Framing, rng: np.random.Generator) -> np.ndarray:
    shape = landmarks.copy()
    for group, wider, taller, across, down in SHAPE_RANGES:
        middle = shape[group].mean(0)
        scale = 1 + rng.uniform(-1, 1, 2) * [wider, taller]
        shift = rng.uniform(-1, 1, 2) * [across, down] * framing.iod
        shape[group] = middle + (shape[group] - middle) * scale + shift
    return shape


def _render(photo: Photo, framing: Framing, shape: np.ndarray) -> np.ndarray:
    """Warp a photograph so that its landmarks come to ``shape`` (frame px); float32, at source scale."""
    turn, shift = framing.alignment(photo.landmarks)
    left, size = -framing.margin, (framing.width + 2 * framing.margin, framing.height + 2 * framing.margin)
    border = warps.border_points(left, left, *size)
    xs, ys = (warps.cell_centres(left, length, length // 4) for length in size)
    moves = np.concatenate([_aligned(photo, framing) - shape, 0 * border])
    field = warps.thin_plate_fields(np.concatenate([shape, border]), moves, xs, ys)
    places = np.stack(np.meshgrid(xs, ys), -1).astype(np.float32) + field
    back = np.linalg.inv(turn)
    places = ((places - shift) @ back.T).astype(np.float32)
    places = warps.upsample(places, size[0] * SOURCE_SCALE, size[1] * SOURCE_SCALE)
    return warps.sample(_band_limit(photo.pixels, np.sqrt(np.linalg.det(turn))), places)


def _band_limit(pixels: np.ndarray, scale: float) -> np.ndarray:
    """Blur a photograph shown at ``scale`` frame pixels per pixel just enough not to alias in the frame."""
    sigma = 0.5 * np.sqrt(max(1 / scale**2 - 1, 0))
    image = pixels.astype(np.float32)
    return cv2.GaussianBlur(image, (0, 0), sigma) if sigma > 0.1 else image


def _lower_face(shape: np.ndarray, framing: Framing) -> np.ndarray:
    """Soft mask ``(h, w, 1)`` at source scale: inside the jaw, below the eyes."""
    top = shape[[33]] - [0, 0.35 * framing.iod]
    hull = np.concatenate([shape[3:14], top])
    hull = hull.mean(0) + 0.86 * (hull - hull.mean(0))
    size = (framing.width + 2 * framing.margin, framing.height + 2 * framing.margin)
    mask = np.zeros(size[::-1], np.float32)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(hull + framing.margin).astype(np.int32)), 1.0)
    mask = cv2.GaussianBlur(mask, (0, 0), 0.09 * framing.iod)
    return cv2.resize(mask, None, fx=SOURCE_SCALE, fy=SOURCE_SCALE, interpolation=cv2.INTER_LINEAR)[..., None]


def _match_colour(image: np.ndarray, model: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Give an image the mean and spread, per Lab channel, that a model image has under a mask."""
    lab, goal = _to_lab(image), _to_lab(model)
    (mean, spread), (goal_mean, goal_spread) = _statistics(lab, mask), _statistics(goal, mask)
    return _from_lab((lab - mean) * np.minimum(goal_spread / spread, 1.2) + goal_mean)


def _statistics(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    weights = mask / mask.sum()
    mean = (weights * image).sum((0, 1))
    return mean, np.sqrt((weights * (image - mean) ** 2).sum((0, 1)))


def _tone(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shift the colour of everything that has the colour of this face's skin."""
    lab = _to_lab(image)
    skin = (lab * mask).sum((0, 1)) / mask.sum()
    likeness = np.exp(-(((lab - skin) / [45, 14, 14]) ** 2).sum(-1, keepdims=True))
    likeness = cv2.GaussianBlur(likeness.astype(np.float32), (0, 0), 4)[..., None]
    return _from_lab(lab + likeness * rng.uniform([-28, -1, -4], [6, 5, 6]))


def _relight(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    angle, strength, gain = rng.uniform([0, 0.05, 0.9], [2 * np.pi, 0.25, 1.08])
    ys, xs = (np.linspace(-1, 1, length) for length in image.shape[:2])
    slope = np.cos(angle) * xs + np.sin(angle) * ys[:, None]
    return image * (gain * (1 + strength * slope))[..., None].astype(np.float32)


def _texture(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add pores and mottling, which a small photograph does not resolve."""
    grain = np.zeros(image.shape[:2], np.float32)
    for sigma, grey_levels in ((2.0, 1.5), (5.0, 1.0)):
        layer = cv2.GaussianBlur(rng.standard_normal(grain.shape, np.float32), (0, 0), sigma)
        grain += grey_levels * layer / layer.std()
    return image + grain[..., None]


def _to_lab(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(np.clip(image, 0, 255).astype(np.float32) / 255, cv2.COLOR_RGB2Lab)


def _from_lab(lab: np.ndarray) -> np.ndarray:
    return 255 * cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_Lab2RGB)


def _to_bytes(image: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(image, 0, 255)).astype(np.uint8)
