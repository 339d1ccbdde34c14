"""Motion pairs: synthetic scenes with exact sub-pixel motion, after Oh et al. 2018.

A scene is a background and foreground objects, each with its own motion. `draw_scene` makes every random choice of a
sample from its seed and index alone, so a sample is the same whatever the batch, the number of workers or devices;
`render` turns a batch of scenes into onset, apex and magnified frames on any device. `MotionPairs` serves them.

Source: Oh et al., Learning-based Video Motion Magnification, ECCV 2018, Sec. 3.3.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from gammer_lightning.data.casme2 import read_casme2
from gammer_lightning.data.clips import Clip
from gammer_lightning.data.colour import linear_to_srgb, srgb_to_linear
from gammer_lightning.data.image_sources import ImageSources
from gammer_lightning.data.microfaces import MicrofacesSpec, synthesize
from gammer_lightning.data.oh2018 import PublishedPairs, RandomCrops, ShuffledFiles
from gammer_lightning.errors import GammerError
from gammer_lightning.processes import end_with_my_parent
from gammer_lightning.settings import MAX_COUNT, MAX_FACTOR, MAX_WORKERS, check_range, check_seed

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
    kind = kind or rng.choice(list(KINDS), p=list(KINDS.values()))
    alpha = alpha or draw_alpha(rng, max_alpha)
    count = 0 if kind == "background only" else int(rng.integers(objects[0], objects[1] + 1))
    layers = [_background(sources, rng, size, blurred=kind == "blurred background")]
    layers += [_object(sources, rng, size) for _ in range(count)]
    blank = np.zeros((size * SUPERSAMPLING,) * 2 + (4,), np.uint8)
    layers += [blank] * (objects[1] - count)
    poses = np.column_stack([rng.uniform(0, size, (len(layers), 2)), rng.uniform(0, 2 * math.pi, len(layers))])
    poses[0] = size / 2, size / 2, 0
    motion = _motions(rng, len(layers), alpha, size) * (kind != "static")
    bend = rng.normal(size=(2, 4, 4)) * (rng.random() < 0.5) * min(np.hypot(*motion[0, :2]), size / 24 / max(alpha, 1))
    return Scene(
        textures=torch.from_numpy(np.stack(layers)).permute(0, 3, 1, 2).contiguous(),
        pose=torch.tensor(poses, dtype=torch.float32),
        motion=torch.tensor(motion, dtype=torch.float32),
        bend=torch.tensor(bend, dtype=torch.float32),
        alpha=torch.tensor(alpha, dtype=torch.float32),
        noise=torch.tensor(
            0.0 if rng.random() < 0.5 else math.exp(rng.uniform(math.log(0.1), math.log(max_noise)))
        ).float(),
        dither=torch.tensor(rng.random(), dtype=torch.float32),
        colour=torch.tensor(
            np.eye(3) * rng.uniform(0.7, 1.3) + rng.normal(scale=0.08, size=(3, 3)), dtype=torch.float32
        ),
        seed=torch.tensor(rng.integers(2**31)),
    )


def draw_alpha(rng: np.random.Generator, max_alpha: float) -> float:
    """Draw a magnification factor: log-uniform from 1 to ``max_alpha``; one in ten attenuates (below 1)."""
    return rng.uniform(0, 1) if rng.random() < 0.1 else math.exp(rng.uniform(0, math.log(max_alpha)))


def _motions(rng: np.random.Generator, layers: int, alpha: float, size: int) -> np.ndarray:
    """Onset-to-apex motion of each layer: px, px, rad. Both limits hold; a quarter of the layers stand still."""
    largest = min(MAX_INPUT_MOTION, MAX_MAGNIFIED_MOTION / max(alpha, 1), size / 3 / max(alpha, 1))
    length = largest * rng.uniform(0, 1, layers) * (rng.random(layers) > 0.25)
    direction = rng.uniform(0, 2 * math.pi, layers)
    turn = rng.normal(scale=0.3, size=layers) * length / size
    return np.column_stack([length * np.cos(direction), length * np.sin(direction), turn])


def _augment(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    image = np.rot90(image, int(rng.integers(4)))
    image = image[:, ::-1] if rng.random() < 0.5 else image
    colour, mask = image[..., :3], image[..., 3:]
    colour = np.clip(colour * rng.uniform(0.6, 1.2) + rng.uniform(-20, 30, 3), 0, 255).astype(np.uint8)
    return np.concatenate([colour, mask], -1)


def _background(sources: ImageSources, rng: np.random.Generator, size: int, blurred: bool) -> np.ndarray:
    photo = sources.photographs[int(rng.integers(len(sources.photographs)))]
    side = size * SUPERSAMPLING
    window = int(min(*photo.shape[:2], side * rng.uniform(0.6, 1.6)))
    top, left = (int(rng.integers(n - window + 1)) for n in photo.shape[:2])
    crop = photo[top : top + window, left : left + window]
    crop = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA if window > side else cv2.INTER_CUBIC)
    if blurred:
        crop = cv2.GaussianBlur(crop, (0, 0), SUPERSAMPLING * rng.uniform(1, 5))
    return np.dstack([_augment(crop, rng), np.full((side, side), 255, np.uint8)])


def _object(sources: ImageSources, rng: np.random.Generator, size: int) -> np.ndarray:
    side = size * SUPERSAMPLING
    take = bool(sources.cutouts) and rng.random() < 0.7
    cutout = sources.cutouts[int(rng.integers(len(sources.cutouts)))] if take else _polygon(sources, rng)
    scale = side * rng.uniform(0.2, 0.8) / max(cutout.shape[:2])
    height, width = (max(4, min(side, round(n * scale))) for n in cutout.shape[:2])
    cutout = cv2.resize(cutout, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    texture = np.zeros((side, side, 4), np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    texture[top : top + height, left : left + width] = cutout
    return _augment(texture, rng)


def _polygon(sources: ImageSources, rng: np.random.Generator, side: int = 192) -> np.ndarray:
    photo = sources.photographs[int(rng.integers(len(sources.photographs)))]
    side = min(side, *photo.shape[:2])
    top, left = (int(rng.integers(n - side + 1)) for n in photo.shape[:2])
    angles = np.sort(rng.uniform(0, 2 * math.pi, rng.integers(3, 9)))
    radius = side / 2 * rng.uniform(0.4, 1, len(angles))
    corners = np.column_stack([np.cos(angles), np.sin(angles)]) * radius[:, None] + side / 2
    mask = cv2.fillPoly(np.zeros((side, side), np.uint8), [corners.astype(np.int32)], 255)
    if rng.random() < 0.3:  # a plain surface: motion shows at its outline only
        return np.dstack([np.full((side, side, 3), rng.integers(0, 256, 3), np.uint8), mask])
    return np.dstack([photo[top : top + side, left : left + side], mask])


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
    noisy = [_sense(frame, scene, number) for number, frame in enumerate((onset, apex, perturbed))]
    return dict(
        onset=noisy[0],
        apex=noisy[1],
        perturbed=noisy[2],
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
    side = scene["textures"].shape[-1]
    bend = times[..., None, None, None] * scene["bend"]
    frames, _, displacement = _layer(scene["textures"][:, 0], scene["pose"][:, 0], scene["motion"][:, 0], times, bend)
    for layer in range(1, scene["textures"].shape[1]):
        shown = scene["textures"][:, layer, 3].flatten(1).any(1).nonzero()[:, 0]  # scenes differ in number of objects
        if len(shown):
            texture, pose, motion = (scene[name][shown, layer] for name in ("textures", "pose", "motion"))
            colour, mask, moved = _layer(texture, pose, motion, times[:, shown])
            frames[shown] = frames[shown].mul_(1 - mask).add_(colour)
            opaque = F.avg_pool2d(mask[..., -side:, :], SUPERSAMPLING)
            displacement[shown] = torch.lerp(displacement[shown], moved, opaque)
    return F.avg_pool2d(frames, SUPERSAMPLING).unflatten(2, (len(times), -1)).movedim(2, 0), displacement


def _layer(texture: Tensor, pose: Tensor, motion: Tensor, times: Tensor, bend: Tensor | None = None) -> tuple:
    """One layer: colour times mask, all times below each other, ``(B, 3, T * S, S)``, mask, last displacement in px."""
    side, size = texture.shape[-1], texture.shape[-1] // SUPERSAMPLING
    to_texture = _affine(pose[:, None] + times.T[..., None] * motion[:, None], size)  # (B, T, 2, 3)
    grid = F.affine_grid(to_texture.flatten(0, 1), [times.numel(), 1, side, side], align_corners=False)
    grid = grid.view(len(pose), -1, side, 2)
    moved = _displacement(pose, to_texture[:, -1], size)
    if bend is not None:
        field = F.interpolate(bend.transpose(0, 1).flatten(0, 1), (side, side), mode="bicubic")
        grid -= field.movedim(1, -1).reshape(grid.shape) * (2 / size)
        moved += F.interpolate(bend[-1], (size, size), mode="bicubic")
    padding = "zeros" if bend is None else "reflection"  # an object ends, a background does not
    seen = F.grid_sample(_premultiplied(texture), grid, padding_mode=padding, align_corners=False)
    return seen[:, :3], seen[:, 3:], moved


def _affine(pose: Tensor, size: int) -> Tensor:
    """Matrices ``(..., 2, 3)`` from normalised frame to normalised texture coordinates, of poses ``(..., 3)``."""
    cos, sin = pose[..., 2].cos(), pose[..., 2].sin()
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
    noises, dithers = zip(*(_pixel_noise(int(seed) + number, frame.shape[1:]) for seed in scene["seed"]), strict=True)
    noise, dither = (torch.stack(draws).to(frame.device) for draws in (noises, dithers))
    noise = noise * scene["noise"].view(-1, 1, 1, 1) * (frame / 0.5).clamp(min=0).sqrt()
    dither = dither * scene["dither"].view(-1, 1, 1, 1)
    return (frame * 255 + noise + dither).round().clamp(0, 255) / 255


def _pixel_noise(seed: int, shape: torch.Size) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator), torch.rand(shape, generator=generator) - 0.5


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
    direction = torch.rand(layers, generator=torch.Generator().manual_seed(int(scene["seed"]))) * 2 * math.pi
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


class Scenes(Dataset):
    """Scenes by index: ``draw(rng, index)`` with an rng that depends on the seed and the index alone."""

    def __init__(self, draw: Callable[[np.random.Generator, int], Scene], seed: int, length: int) -> None:
        self.draw, self.seed, self.length = draw, seed, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return dict(self.draw(np.random.default_rng([self.seed, index]), index))


class FreshSamples(DistributedSampler):
    """Indices that no epoch and no device has used before, so no sample is ever seen twice."""

    dataset: Scenes

    def __iter__(self) -> Iterator[int]:
        length = len(self.dataset)
        return iter(range(self.epoch * length + self.rank, (self.epoch + 1) * length, self.num_replicas))


class MotionPairs(pl.LightningDataModule):
    """Synthetic motion pairs; scenes are drawn in workers and rendered on the training device.

    Args:
        sources: Folders of images and cut-outs, PASCAL VOC, or embedded sets (see `ImageSources`), to train and
            validate on: other scenes, same images.
        test_sources: The same for `gammer magnify test`: images that no training saw.
        published: Folder in the layout of Oh et al.'s set to train on, in random crops of ``size``, instead of
            generated scenes; an epoch is then each of its files once. Validation and test stay on generated scenes.
        size: Side of training frames in px.
        objects: Fewest and most foreground objects in a training scene; Oh et al. have 7 to 15 at 384 px.
        max_alpha: Largest magnification factor.
        max_noise: Largest noise, grey levels at mid-grey.
        batch_size: Samples per device and step.
        samples: Generated training samples per epoch over all devices; each epoch has new ones.
        val_samples: Validation samples, dealt evenly to alphas 2, 5, 10, 20, 50, 100.
        test_scenes: Scenes per row of the sub-pixel and noise protocol.
        test_size: Side of test frames in px.
        microfaces: Folder of the microfaces clips of the test; made where there is none (4 subjects, a clip per class).
        seed: Same seed and index, same sample; the test's scenes do not depend on it.
        num_workers: Processes that draw scenes.

    Raises:
        GammerError: A setting is out of range, or a source cannot be read.
    """

    hparams: Any  # the settings below as attributes; Lightning declares a mapping
    trainer: pl.Trainer  # set before any loader is asked for

    def __init__(
        self,
        sources: Sequence[str] = ("embedded",),
        test_sources: Sequence[str] = ("embedded-test",),
        published: str | None = None,
        size: int = 96,
        objects: tuple[int, int] = (1, 4),
        max_alpha: float = 100.0,
        max_noise: float = 3.0,
        batch_size: int = 8,
        samples: int = 4000,
        val_samples: int = 96,
        test_scenes: int = 6,
        test_size: int = 256,
        microfaces: str = "cache/microfaces-test",
        seed: int = 0,
        num_workers: int = 1,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        for name, low, high in (
            ("batch_size", 1, MAX_COUNT),
            ("samples", 1, MAX_COUNT),
            ("val_samples", 1, MAX_COUNT),
            ("test_scenes", 1, MAX_COUNT),
            ("num_workers", 0, MAX_WORKERS),
        ):
            check_range(f"data.{name}", self.hparams[name], low, high)
        check_seed("data.seed", seed)
        check_scene_settings(size, objects, max_alpha, max_noise)
        check_scene_settings(test_size)

    def setup(self, stage: str) -> None:
        """Load the pictures, and list the published set; a test loads only its own pictures."""
        h = self.hparams
        self.images = ImageSources(h.test_sources if stage == "test" else h.sources)
        if stage == "fit" and h.published:
            self.published = RandomCrops(PublishedPairs(h.published), h.size, h.seed)

    def train_dataloader(self) -> DataLoader:
        """Scenes that no epoch repeats, or the published files, each once in an epoch."""
        h = self.hparams
        processes, rank = self.trainer.world_size, self.trainer.global_rank
        if h.published:
            files = ShuffledFiles(self.published, processes, rank, seed=h.seed, drop_last=True)
            return self._loader(self.published, sampler=files)
        scenes = Scenes(self._training_scene, h.seed, h.samples)
        return self._loader(scenes, sampler=FreshSamples(scenes, processes, rank, drop_last=True))

    def val_dataloader(self) -> DataLoader:
        """The same scenes each time, at the validation alphas in turn."""
        return self._loader(Scenes(self._validation_scene, self.hparams.seed + 1, self.hparams.val_samples))

    def test_dataloader(self) -> list[DataLoader]:
        """The sub-pixel test, a row a motion, and the noise test, a row a noise level, on the same scenes."""
        rows = [(d, 0.0) for d in SUBPIXEL_MOTIONS], [(NOISE_MOTION, noise) for noise in NOISE_LEVELS]
        count = self.hparams.test_scenes
        return [
            self._loader(
                Scenes(partial(self._test_scene, test), self.hparams.seed, count * len(test)),
                batch_size=count,
            )
            for test in rows
        ]

    def test_faces(self) -> tuple[Path, list[Clip]]:
        """The microfaces folder of the test and its clips."""
        root = Path(self.hparams.microfaces)
        if not root.exists():
            synthesize(root, MicrofacesSpec(subjects=4, clips_per_class=1))
        return root, read_casme2(root, "microfaces")

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        """Render the scenes on the device they have reached; published frames are left as they are."""
        return render(batch) if "textures" in batch else batch

    def _training_scene(self, rng: np.random.Generator, index: int) -> Scene:
        h = self.hparams
        return draw_scene(self.images, rng, h.size, h.objects, h.max_alpha, h.max_noise)

    def _validation_scene(self, rng: np.random.Generator, index: int) -> Scene:
        alpha = VALIDATION_ALPHAS[index % len(VALIDATION_ALPHAS)]
        return draw_scene(self.images, rng, self.hparams.size, self.hparams.objects, alpha, alpha=alpha)

    def _test_scene(self, rows: Sequence[tuple[float, float]], rng: np.random.Generator, index: int) -> Scene:
        row, number = divmod(index, self.hparams.test_scenes)
        rng = np.random.default_rng([TEST_SEED, number])  # the same scenes in every row of every run
        scene = draw_scene(self.images, rng, self.hparams.test_size, (7, 15), kind="normal")
        return protocol_scene(scene, *rows[row])

    def _loader(self, scenes: Dataset, **kwargs) -> DataLoader:
        kwargs = {"batch_size": self.hparams.batch_size, **kwargs}
        return DataLoader(scenes, num_workers=self.hparams.num_workers, worker_init_fn=end_with_my_parent, **kwargs)
