"""Scenes of synthetic motion, drawn at random: background, objects, motions, alpha."""

import math

import cv2
import numpy as np
import torch

from gammer_lightning.data.motion.image_sources import ImageSources
from gammer_lightning.errors import GammerError
from gammer_lightning.ranges import MAX_FACTOR

SUPERSAMPLING = 2


MAX_INPUT_MOTION = 10.0  # px, onset to apex


MAX_MAGNIFIED_MOTION = 30.0  # px, onset to magnified frame


MAX_SIDE, MAX_OBJECTS, MAX_NOISE = 2048, 100, 255  # px, of a frame; of a scene, whose memory they bound; grey levels


KINDS = {"normal": 0.6, "blurred background": 0.15, "background only": 0.15, "static": 0.1}


class Scene(dict):
    """The random choices of one sample, as tensors that batch by stacking (see `draw_scene`)."""


def check_scene_settings(
    size: int, objects: tuple[int, int] = (0, 0), max_alpha: float = 1.0, max_noise: float = 0.1
) -> None:
    """Check settings of `draw_scene`.

    Raises:
        GammerError: One is out of range.
    """
    if not 32 <= size <= MAX_SIDE or size % 2:
        raise GammerError(f"frames of {size} px", f"an even number, 32 to {MAX_SIDE}", "choose another size")
    if not 0 <= objects[0] <= objects[1] <= MAX_OBJECTS:
        raise GammerError(
            f"objects {objects}", f"fewest and most, 0 <= fewest <= most <= {MAX_OBJECTS}", "choose others"
        )
    if not (1 <= max_alpha <= MAX_FACTOR and 0.1 <= max_noise <= MAX_NOISE):
        raise GammerError(
            f"max_alpha {max_alpha}, max_noise {max_noise}",
            f"max_alpha from 1 to {MAX_FACTOR:g}, max_noise from 0.1 to {MAX_NOISE}",
            "choose others",
        )


def draw_scene(
    sources: ImageSources,
    rng: np.random.Generator,
    size: int,
    objects: tuple[int, int],
    max_alpha: float = 100.0,
    max_noise: float = 3.0,
    alpha: float | None = None,
    kind: str | None = None,
) -> Scene:
    """Draw a scene.

    Args:
        sources: Where its pictures come from.
        rng: Seeded by the sample's seed and index.
        size: Side of the rendered frames in px.
        objects: Fewest and most foreground objects.
        max_alpha: Largest magnification factor (see `draw_alpha`).
        max_noise: Largest standard deviation of a mid-grey pixel, in grey levels; half of the samples have none.
        alpha: Magnification factor, drawn where None.
        kind: One of `KINDS`, drawn where None.

    Returns:
        Tensors: ``textures`` ``(1 + N, 4, S, S)`` uint8 (background first; RGB and mask at the supersampled size S),
        ``pose`` ``(1 + N, 3)`` (centre x, y in px, angle in rad), ``motion`` ``(1 + N, 3)`` onset to apex in the same
        units, ``bend`` ``(2, 4, 4)`` px (a smooth motion of the background beside the rigid one), ``alpha``, ``noise``
        (grey levels), ``dither`` (grey levels), ``colour`` ``(3, 3)`` perturbation, ``seed`` of the pixel noise.
    """
    # The order of the draws is part of the format: another one gives other scenes of the same seed.
    kind = kind or rng.choice(list(KINDS), p=list(KINDS.values()))
    alpha = alpha or draw_alpha(rng, max_alpha)
    fewest, most = objects
    count = 0 if kind == "background only" else int(rng.integers(fewest, most + 1))
    layers = [_background(sources, rng, size, blurred=kind == "blurred background")]
    layers += [_object(sources, rng, size) for _ in range(count)]
    side = size * SUPERSAMPLING
    layers += [np.zeros((side, side, 4), np.uint8)] * (most - count)
    textures = torch.from_numpy(np.stack(layers)).permute(0, 3, 1, 2)
    centres = rng.uniform(0, size, (len(layers), 2))
    angles = rng.uniform(0, 2 * math.pi, len(layers))
    poses = np.column_stack([centres, angles])
    poses[0] = size / 2, size / 2, 0
    motion = _motions(rng, len(layers), alpha, size) * (kind != "static")
    largest_bend = min(np.hypot(*motion[0, :2]), size / 24 / max(alpha, 1))
    bend = rng.normal(size=(2, 4, 4)) * (rng.random() < 0.5) * largest_bend
    noise = 0.0
    if rng.random() >= 0.5:
        noise = math.exp(rng.uniform(math.log(0.1), math.log(max_noise)))
    dither = rng.random()
    brightness = np.eye(3) * rng.uniform(0.7, 1.3)
    colour = brightness + rng.normal(scale=0.08, size=(3, 3))
    seed = rng.integers(2**31)
    return Scene(
        textures=textures.contiguous(),
        pose=torch.tensor(poses, dtype=torch.float32),
        motion=torch.tensor(motion, dtype=torch.float32),
        bend=torch.tensor(bend, dtype=torch.float32),
        alpha=torch.tensor(alpha, dtype=torch.float32),
        noise=torch.tensor(noise, dtype=torch.float32),
        dither=torch.tensor(dither, dtype=torch.float32),
        colour=torch.tensor(colour, dtype=torch.float32),
        seed=torch.tensor(seed),
    )


def draw_alpha(rng: np.random.Generator, max_alpha: float) -> float:
    """Draw a magnification factor: log-uniform from 1 to ``max_alpha``; one in ten attenuates (below 1)."""
    if rng.random() < 0.1:
        return rng.uniform(0, 1)
    return math.exp(rng.uniform(0, math.log(max_alpha)))


def _motions(rng: np.random.Generator, layers: int, alpha: float, size: int) -> np.ndarray:
    """Onset-to-apex motion of each layer: px, px, rad. Both limits hold; a quarter of the layers stand still."""
    magnification = max(alpha, 1)
    largest = min(MAX_INPUT_MOTION, MAX_MAGNIFIED_MOTION / magnification, size / 3 / magnification)
    length = largest * rng.uniform(0, 1, layers) * (rng.random(layers) > 0.25)
    direction = rng.uniform(0, 2 * math.pi, layers)
    turn = rng.normal(scale=0.3, size=layers) * length / size
    return np.column_stack([length * np.cos(direction), length * np.sin(direction), turn])


def _augment(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    image = np.rot90(image, int(rng.integers(4)))
    image = image[:, ::-1] if rng.random() < 0.5 else image
    mask = image[..., 3:]
    colour = image[..., :3] * rng.uniform(0.6, 1.2)
    colour = np.clip(colour + rng.uniform(-20, 30, 3), 0, 255)
    return np.concatenate([colour.astype(np.uint8), mask], -1)


def _photograph(sources: ImageSources, rng: np.random.Generator) -> np.ndarray:
    return sources.photographs[int(rng.integers(len(sources.photographs)))]


def _background(sources: ImageSources, rng: np.random.Generator, size: int, blurred: bool) -> np.ndarray:
    """Draw a window of a photograph, uint8 ``(S, S, 4)`` with a mask of 255."""
    photo = _photograph(sources, rng)
    side = size * SUPERSAMPLING
    window = int(min(*photo.shape[:2], side * rng.uniform(0.6, 1.6)))
    top, left = (int(rng.integers(n - window + 1)) for n in photo.shape[:2])
    crop = photo[top : top + window, left : left + window]
    interpolation = cv2.INTER_AREA if window > side else cv2.INTER_CUBIC
    crop = cv2.resize(crop, (side, side), interpolation=interpolation)
    if blurred:
        crop = cv2.GaussianBlur(crop, (0, 0), SUPERSAMPLING * rng.uniform(1, 5))
    mask = np.full((side, side), 255, np.uint8)
    return np.dstack([_augment(crop, rng), mask])


def _object(sources: ImageSources, rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw a cut-out or a polygon in the middle of an empty texture, uint8 ``(S, S, 4)``."""
    side = size * SUPERSAMPLING
    if bool(sources.cutouts) and rng.random() < 0.7:
        cutout = sources.cutouts[int(rng.integers(len(sources.cutouts)))]
    else:
        cutout = _polygon(sources, rng)
    scale = side * rng.uniform(0.2, 0.8) / max(cutout.shape[:2])
    height, width = (max(4, min(side, round(n * scale))) for n in cutout.shape[:2])
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    cutout = cv2.resize(cutout, (width, height), interpolation=interpolation)
    texture = np.zeros((side, side, 4), np.uint8)
    top = (side - height) // 2
    left = (side - width) // 2
    texture[top : top + height, left : left + width] = cutout
    return _augment(texture, rng)


def _polygon(sources: ImageSources, rng: np.random.Generator, side: int = 192) -> np.ndarray:
    """Draw a polygon with the texture of a photograph, or plain, uint8 ``(side, side, 4)``."""
    photo = _photograph(sources, rng)
    side = min(side, *photo.shape[:2])
    top, left = (int(rng.integers(n - side + 1)) for n in photo.shape[:2])
    angles = np.sort(rng.uniform(0, 2 * math.pi, rng.integers(3, 9)))
    radius = side / 2 * rng.uniform(0.4, 1, len(angles))
    directions = np.column_stack([np.cos(angles), np.sin(angles)])
    corners = directions * radius[:, None] + side / 2
    mask = cv2.fillPoly(np.zeros((side, side), np.uint8), [corners.astype(np.int32)], 255)
    if rng.random() < 0.3:  # a plain surface: motion shows at its outline only
        surface = np.full((side, side, 3), rng.integers(0, 256, 3), np.uint8)
    else:
        surface = photo[top : top + side, left : left + side]
    return np.dstack([surface, mask])
