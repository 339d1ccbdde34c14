"""Writes generated motion pairs as files, in the layout of Oh et al.'s published set, so that they can be shared.

A set is a folder:
    train/{frameA,frameC}/000000.png     first and second frame, with their sensor noise
    train/{frameB,amplified}/000000.png  second and magnified frame, both in other colours (see `oh2018`)
    train/train_mf.txt                   the factors, a line a sample; written last
    motion_pairs.json                    what made it
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import default_collate

from gammer_lightning.data.motion.colour import linear_to_srgb, srgb_to_linear
from gammer_lightning.data.motion.image_sources import ImageSources, source_files
from gammer_lightning.data.motion.oh2018 import FACTORS, FRAMES
from gammer_lightning.data.motion.render import recolour, render
from gammer_lightning.data.motion.scenes import check_scene_settings, draw_alpha, draw_scene
from gammer_lightning.data.resumable import PNG_END, claimed, ends_with, finish, process_map
from gammer_lightning.errors import GammerError
from gammer_lightning.files import content_hash, disk_errors, replacing
from gammer_lightning.pixels import to_uint8
from gammer_lightning.ranges import MAX_SEED

VERSION = 1  # of the pixels: raise it when the same settings give others
MANIFEST = "motion_pairs.json"
MOST_SAMPLES = 10**6  # their numbers have six digits


@dataclass(frozen=True)
class MotionSetSpec:
    """What to write.

    Args:
        samples: Number of samples.
        size: Side of the frames in px.
        sources: Where the pictures come from (see `ImageSources`).
        objects: Fewest and most foreground objects.
        max_alpha: Largest magnification factor.
        seed: Everything random follows from it.

    Raises:
        GammerError: A value is out of range.
    """

    samples: int
    size: int = 384
    sources: tuple[str, ...] = ("embedded",)
    objects: tuple[int, int] = (7, 15)
    max_alpha: float = 100.0
    seed: int = 0

    def __post_init__(self):
        check_scene_settings(self.size, self.objects, self.max_alpha)
        if not (1 <= self.samples <= MOST_SAMPLES and 0 <= self.seed <= MAX_SEED):
            raise GammerError(
                f"samples {self.samples}, seed {self.seed}",
                f"samples of 1 to {MOST_SAMPLES:,}, a seed of 0 to {MAX_SEED}",
                "gammer data synthesize-motion --help",
            )

    def alpha(self, index: int) -> float:
        """The magnification factor of a sample."""
        return draw_alpha(np.random.default_rng([self.seed, index, 1]), self.max_alpha)


def write_motion_set(out: Path, spec: MotionSetSpec, workers: int = 0) -> None:
    """Write the set; a run that was stopped goes on where it stopped, to the same bytes.

    Args:
        out: Folder to write; new, empty, or of the same spec.
        spec: What to write.
        workers: Processes; 0 or 1 works in this one. The bytes do not depend on it.

    Raises:
        GammerError: If the folder holds something else, a source cannot be read, or the disk is full.
    """
    manifest = _manifest(spec)
    with (
        disk_errors(out),
        claimed(out / MANIFEST, manifest, ["train"]) as is_ours,
        process_map(workers, _one_thread) as run,
    ):
        unwritten = list(_unwritten(out, spec, is_ours))
        finish(run(partial(_write_sample, out, spec), unwritten), len(unwritten), "samples")
        with replacing(out / "train" / FACTORS) as temporary:
            factors = [f"{spec.alpha(index)!r}\n" for index in range(spec.samples)]
            temporary.write_text("".join(factors))


def _manifest(spec: MotionSetSpec) -> dict:
    files: list[Path] = []
    for source in spec.sources:
        files += source_files(source)
    content = content_hash(*(f"{path.name} {path.stat().st_size}" for path in files))
    return {"motion_pairs": VERSION, **asdict(spec), "images": len(files), "names_and_sizes": content}


def _one_thread() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def _path(out: Path, name: str, index: int) -> Path:
    return out / "train" / name / f"{index:06d}.png"


def _unwritten(out: Path, spec: MotionSetSpec, is_ours: bool) -> Iterator[int]:
    """The samples that lack an image, or one of whose images is cut off; makes the folders."""
    for name in FRAMES:
        (out / "train" / name).mkdir(parents=True, exist_ok=True)
    for index in range(spec.samples):
        if not is_ours or not all(ends_with(_path(out, name, index), PNG_END) for name in FRAMES):
            yield index


def _write_sample(out: Path, spec: MotionSetSpec, index: int) -> None:
    rng = np.random.default_rng([spec.seed, index])
    scene = draw_scene(_pictures(spec.sources), rng, spec.size, spec.objects, alpha=spec.alpha(index))
    batch = default_collate([dict(scene)])
    rendered = render(batch)
    magnified = srgb_to_linear(rendered["magnified"])
    amplified = linear_to_srgb(recolour(magnified, batch["colour"]))
    frames = torch.cat([rendered["onset"], rendered["perturbed"], rendered["apex"], amplified])
    for name, frame in zip(FRAMES, to_uint8(frames), strict=True):
        _, encoded = cv2.imencode(".png", frame[..., ::-1])
        with replacing(_path(out, name, index), sync=False) as temporary:
            temporary.write_bytes(encoded.tobytes())


@lru_cache(1)
def _pictures(sources: tuple[str, ...]) -> ImageSources:
    return ImageSources(sources)
