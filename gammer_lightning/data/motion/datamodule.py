"""The DataModule of the magnifier's training: scenes drawn on the fly, or a published set."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.utilities.parsing import AttributeDict
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from gammer_lightning.data.clips.casme2 import read_casme2
from gammer_lightning.data.clips.clip import Clip
from gammer_lightning.data.microfaces.generate import synthesize
from gammer_lightning.data.microfaces.spec import MicrofacesSpec
from gammer_lightning.data.motion.image_sources import ImageSources
from gammer_lightning.data.motion.oh2018 import PublishedPairs, RandomCrops, ShuffledFiles
from gammer_lightning.data.motion.render import (
    NOISE_LEVELS,
    NOISE_MOTION,
    SUBPIXEL_MOTIONS,
    TEST_SEED,
    VALIDATION_ALPHAS,
    protocol_scene,
    render,
)
from gammer_lightning.data.motion.scenes import Scene, check_scene_settings, draw_scene
from gammer_lightning.processes import start_loader_worker
from gammer_lightning.ranges import MAX_COUNT, MAX_WORKERS, check_range, check_seed


class Scenes(Dataset):
    """Scenes by index: ``draw(rng, index)`` with an rng that depends on the seed and the index alone."""

    def __init__(self, draw: Callable[[np.random.Generator, int], Scene], seed: int, length: int) -> None:
        self.draw = draw
        self.seed = seed
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, index])
        return dict(self.draw(rng, index))


class FreshSamples(DistributedSampler):
    """Indices that no epoch and no device has used before, so no sample is ever seen twice."""

    dataset: Scenes

    def __iter__(self) -> Iterator[int]:
        length = len(self.dataset)
        start = self.epoch * length
        return iter(range(start + self.rank, start + length, self.num_replicas))


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

    hparams: AttributeDict  # the settings below; Lightning declares any mapping
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
        processes = self.trainer.world_size
        rank = self.trainer.global_rank
        if h.published:
            files = ShuffledFiles(self.published, processes, rank, seed=h.seed, drop_last=True)
            return self._loader(self.published, sampler=files)
        scenes = Scenes(self._training_scene, h.seed, h.samples)
        return self._loader(scenes, sampler=FreshSamples(scenes, processes, rank, drop_last=True))

    def val_dataloader(self) -> DataLoader:
        """The same scenes each time, at the validation alphas in turn."""
        scenes = Scenes(self._validation_scene, self.hparams.seed + 1, self.hparams.val_samples)
        return self._loader(scenes)

    def test_dataloader(self) -> list[DataLoader]:
        """The sub-pixel test, a row a motion, and the noise test, a row a noise level, on the same scenes."""
        subpixel_rows = [(motion, 0.0) for motion in SUBPIXEL_MOTIONS]
        noise_rows = [(NOISE_MOTION, noise) for noise in NOISE_LEVELS]
        count = self.hparams.test_scenes
        loaders = []
        for rows in (subpixel_rows, noise_rows):
            scenes = Scenes(partial(self._test_scene, rows), self.hparams.seed, count * len(rows))
            loaders.append(self._loader(scenes, batch_size=count))
        return loaders

    def test_faces(self) -> tuple[Path, list[Clip]]:
        """The microfaces folder of the test and its clips."""
        root = Path(self.hparams.microfaces)
        if not root.exists():
            synthesize(root, MicrofacesSpec(subjects=4, clips_per_class=1, benchmark=1))
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
        return DataLoader(scenes, num_workers=self.hparams.num_workers, worker_init_fn=start_loader_worker, **kwargs)
