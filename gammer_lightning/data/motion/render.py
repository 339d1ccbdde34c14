"""Motion pairs: synthetic scenes with exact sub-pixel motion, after Oh et al. 2018.

A scene is a background and foreground objects, each with its own motion. `draw_scene` makes every random choice of a
sample from its seed and index alone, so a sample is the same whatever the batch, the number of workers or devices;
`render` turns a batch of scenes into onset, apex and magnified frames on any device. `MotionPairs` serves them.

Source: Oh et al., Learning-based Video Motion Magnification, ECCV 2018, Sec. 3.3.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gammer_lightning.data.motion.colour import linear_to_srgb, srgb_to_linear
from gammer_lightning.data.motion.scenes import SUPERSAMPLING, Scene


def render(scene: dict[str, Tensor]) -> dict[str, Tensor]:
    """Render a batch of scenes, exactly, on the device their tensors are on.

    Composed in linear light at the supersampled size, then averaged down. Noise (Poisson-like: variance grows with
    intensity) and 8-bit dithered quantisation fall on onset and apex only, never on the target.

    Args:
        scene: Stacked `Scene` tensors of ``B`` samples.

    Returns:
        ``onset``, ``apex``, ``perturbed`` (the apex in other colours), ``magnified``, ``perturbed_magnified`` (in the
        same other colours): ``(B, 3, H, W)`` in [0, 1], sRGB; ``displacement`` ``(B, 2, H, W)`` px, onset to
        magnified, at the magnified frame's pixels; ``alpha`` ``(B,)``.
    """
    alpha = scene["alpha"]
    times = torch.stack([torch.zeros_like(alpha), torch.ones_like(alpha), alpha])
    linear, displacement = _compose(scene, times)
    onset, apex, magnified = linear_to_srgb(linear)
    perturbed, perturbed_magnified = (linear_to_srgb(recolour(frame, scene["colour"])) for frame in linear[1:])
    return dict(
        onset=_sense(onset, scene, 0),
        apex=_sense(apex, scene, 1),
        perturbed=_sense(perturbed, scene, 2),
        magnified=magnified,
        perturbed_magnified=perturbed_magnified,
        displacement=displacement,
        alpha=alpha,
    )


def recolour(linear: Tensor, colour: Tensor) -> Tensor:
    """Mix the channels of linear-light frames ``(B, 3, H, W)`` by matrices ``(B, 3, 3)``."""
    return (linear.movedim(1, -1) @ colour[:, None].mT).movedim(-1, 1)


def _compose(scene: dict[str, Tensor], times: Tensor) -> tuple[Tensor, Tensor]:
    """Linear-light frames ``(T, B, 3, H, W)`` and the last time's displacement ``(B, 2, H, W)`` in px."""
    textures = scene["textures"]
    poses = scene["pose"]
    motions = scene["motion"]
    num_layers, side = textures.shape[1], textures.shape[-1]
    bend = times[..., None, None, None] * scene["bend"]
    frames, _, displacement = _layer(textures[:, 0], poses[:, 0], motions[:, 0], times, bend)
    for layer in range(1, num_layers):
        masks = textures[:, layer, 3].flatten(1)
        visible = masks.any(1).nonzero()[:, 0]  # scenes differ in number of objects
        if not len(visible):
            continue
        texture = textures[visible, layer]
        colour, mask, moved = _layer(texture, poses[visible, layer], motions[visible, layer], times[:, visible])
        frames[visible] = frames[visible].mul_(1 - mask).add_(colour)
        opaque = F.avg_pool2d(mask[..., -side:, :], SUPERSAMPLING)
        displacement[visible] = torch.lerp(displacement[visible], moved, opaque)
    averaged = F.avg_pool2d(frames, SUPERSAMPLING)
    return averaged.unflatten(2, (len(times), -1)).movedim(2, 0), displacement


def _layer(texture: Tensor, pose: Tensor, motion: Tensor, times: Tensor, bend: Tensor | None = None) -> tuple:
    """One layer: colour times mask, all times below each other, ``(B, 3, T * S, S)``, mask, last displacement in px."""
    side = texture.shape[-1]
    size = side // SUPERSAMPLING
    poses = pose[:, None] + times.T[..., None] * motion[:, None]  # (B, T, 3)
    to_texture = _affine(poses, size)  # (B, T, 2, 3)
    grid = F.affine_grid(to_texture.flatten(0, 1), [times.numel(), 1, side, side], align_corners=False)
    grid = grid.view(len(pose), -1, side, 2)
    moved = _displacement(pose, to_texture[:, -1], size)
    if bend is not None:
        field = F.interpolate(bend.transpose(0, 1).flatten(0, 1), (side, side), mode="bicubic")
        grid -= field.movedim(1, -1).reshape(grid.shape) * (2 / size)
        moved += F.interpolate(bend[-1], (size, size), mode="bicubic")
    padding = "zeros" if bend is None else "reflection"  # an object ends, a background does not
    sampled = F.grid_sample(_premultiplied(texture), grid, padding_mode=padding, align_corners=False)
    return sampled[:, :3], sampled[:, 3:], moved


def _affine(pose: Tensor, size: int) -> Tensor:
    """Matrices ``(..., 2, 3)`` from normalised frame to normalised texture coordinates, of poses ``(..., 3)``."""
    cos = pose[..., 2].cos()
    sin = pose[..., 2].sin()
    turn = torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], -2)
    centre = (pose[..., :2] * 2 / size - 1)[..., None]
    return torch.cat([turn, -turn @ centre], -1)


def _displacement(pose: Tensor, to_texture: Tensor, size: int) -> Tensor:
    """How far each pixel ``(B, 2, H, W)`` of a layer has come from its onset pose, in px."""
    back = _affine(pose, size)[..., :2].mT
    centre = (pose[:, :2] * 2 / size - 1)[..., None]
    came_from = back @ to_texture + torch.cat([torch.zeros_like(back), centre], -1)
    still = torch.eye(2, 3, device=pose.device).expand_as(came_from)
    grid = F.affine_grid(still - came_from, [len(pose), 1, size, size], align_corners=False)
    return grid.permute(0, 3, 1, 2) * (size / 2)


def _premultiplied(texture: Tensor) -> Tensor:
    """uint8 sRGB and mask ``(B, 4, S, S)`` to linear light times mask, and mask, in [0, 1]."""
    ramp = srgb_to_linear(torch.arange(256, device=texture.device) / 255)
    mask = texture[:, 3:] / 255
    return torch.cat([ramp[texture[:, :3].int()] * mask, mask], 1)


def _sense(frame: Tensor, scene: dict[str, Tensor], number: int) -> Tensor:
    """A camera's view of a clean frame: photon-like noise, dither, 8 bits."""
    noises = []
    dithers = []
    for seed in scene["seed"]:
        generator = torch.Generator().manual_seed(int(seed) + number)
        noises.append(torch.randn(frame.shape[1:], generator=generator))
        dithers.append(torch.rand(frame.shape[1:], generator=generator) - 0.5)
    photons = (frame / 0.5).clamp(min=0).sqrt()
    noise = torch.stack(noises).to(frame.device) * scene["noise"].view(-1, 1, 1, 1) * photons
    dither = torch.stack(dithers).to(frame.device) * scene["dither"].view(-1, 1, 1, 1)
    levels = frame * 255 + noise + dither
    return levels.round().clamp(0, 255) / 255


SUBPIXEL_MOTIONS = (
    0.04,
    0.05,
    0.063,
    0.079,
    0.10,
    0.13,
    0.16,
    0.20,
    0.25,
    0.32,
    0.40,
    0.50,
    0.63,
    0.79,
    1.0,
)  # px
NOISE_LEVELS = tuple(round(10 ** (k / 5 - 2), 3) for k in range(21))  # grey levels at mid-grey, .01 to 100
NOISE_MOTION = 0.05  # px
PROTOCOL_OUTPUT_MOTION = 10.0  # px, so alpha = 10 / d
TEST_SEED = 0
VALIDATION_ALPHAS = (2.0, 5.0, 10.0, 20.0, 50.0, 100.0)


def protocol_scene(scene: Scene, motion: float, noise: float) -> Scene:
    """A scene of the field's test: each object moves ``motion`` px, alpha makes that 10 px, the background stands.

    Args:
        scene: Drawn as for training; keeps its pictures and places.
        motion: Onset-to-apex motion d in px.
        noise: Standard deviation of a mid-grey pixel in grey levels.

    Source: Oh et al. 2018, Sec. 4 (sub-pixel test and noise test); plain 8-bit rounding, no dither.
    """
    layers = len(scene["pose"])
    generator = torch.Generator().manual_seed(int(scene["seed"]))
    direction = torch.rand(layers, generator=generator) * 2 * math.pi
    steps = torch.stack([direction.cos(), direction.sin(), torch.zeros(layers)], 1) * motion
    steps[0] = 0
    return Scene(
        scene,
        motion=steps,
        bend=torch.zeros(2, 4, 4),
        dither=torch.tensor(0.0),
        alpha=torch.tensor(PROTOCOL_OUTPUT_MOTION / motion),
        noise=torch.tensor(float(noise)),
    )
