"""The DataModule of recognition: what networks are shown of pre-magnified clips, by default landmark patches.

``prepare_data`` fills the cache, ``setup`` loads everything into memory, pictures as uint8.
"""

import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from statistics import median
from typing import TypeVar

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.parsing import AttributeDict
from torch.utils.data import DataLoader, Dataset, Sampler

from gammer_lightning.data.clips.action_units import unit_faults, unit_matrix
from gammer_lightning.data.clips.apex import METHODS, ApexMethod, with_apexes
from gammer_lightning.data.clips.class_sets import Labels, check_class_set, class_labels, class_set_notes
from gammer_lightning.data.clips.clip import Clip
from gammer_lightning.data.clips.datasets import read_datasets
from gammer_lightning.data.inputs.augment import PhotometricAugmentation
from gammer_lightning.data.inputs.catalogue import (
    INPUTS,
    Input,
    check_input,
    compute_inputs,
    cut_inputs,
    read_inputs,
    refuse_short,
)
from gammer_lightning.data.inputs.face_clip import FLOW_ESTIMATORS, TV_L1, FaceClip
from gammer_lightning.data.premagnify.cache import RAW, CacheEntry
from gammer_lightning.data.premagnify.fill import premagnify
from gammer_lightning.errors import GammerError
from gammer_lightning.faces.alignment import CROP
from gammer_lightning.files import content_hash
from gammer_lightning.magnifiers import check_alphas, load_magnifier
from gammer_lightning.pixels import to_floats
from gammer_lightning.processes import start_loader_worker
from gammer_lightning.ranges import MAX_COUNT, MAX_WORKERS, check_choice, check_range, check_seed

MAX_SIZE = 1024
"""Side of the largest face that a network is shown, px."""

Batch = TypeVar("Batch")


class MagnifiedClips(pl.LightningDataModule):
    """Clips of one data set or several, pre-magnified, as landmark patches or another input.

    A batch is a dict: ``input`` float32, of patches ``(B, 68, C, P, P)`` in [-1, 1]; ``label`` and ``clip`` (index into
    ``clips``) int64 ``(B,)``; ``alpha`` float32 ``(B,)``. Of the class set ``"units"`` ``label`` is 1 or 0 for each
    unit, ``(B, 12)``. A training epoch shows every clip once, at a random
    training alpha, augmented; testing and predicting show every clip once, in order, at ``eval_alpha`` and
    unaugmented. Leaving out the held-out subject is the task's concern. There is a validation loader under the
    protocol ``"inner"`` only, since nothing may be chosen on the held-out subjects of the others.

    After ``setup``: ``clips``, ``labels``, ``class_names``, ``subjects`` (``"dataset/subject"`` for each
    clip), ``landmarks`` float32 ``(n, 68, 2)`` px in the crop, ``clip_hash``, and ``inputs``
    ``(n, A, ...)``: what `Input.compute` returns of each clip at each alpha of training and evaluation.

    Args:
        roots: Folder of each data set by its name (microfaces, casme2, samm, smic; further casts of microfaces as
            microfaces-NAME); null looks at its environment variable, e.g. ``GAMMER_CASME2``.
        class_set: As in `class_labels`: ``"three"``, ``"five"``, ``"objective"``, ``"units"`` or a YAML file of your
            own.
        clip_list: MEGC 2019's official list of clips, if those are to be kept; as in `class_labels`.
        apex: Where none is annotated: ``"middle"`` or ``"spotted"``, as in `with_apexes`.
        magnifier: Name or path, as in `load_magnifier`.
        alphas: Magnification factors to pre-magnify; 1, the raw apex, is always there.
        train_alphas: Those among them that training draws from.
        eval_alpha: The one among them that evaluation uses; 1 is the raw apex.
        input: Patches of the ``"apex"`` as in the paper, its ``"difference"`` from the onset, or ``"both"``; or what
            one of the systems it is compared with is shown (`gammer_lightning.data.inputs.catalogue.INPUTS`).
        patch_size: Side of a patch, px of the 256 px crop.
        size: Side of the face in px, of inputs that are not patches; of each patch of ``"flow_patches"``.
        flow_estimator: What estimates the flow of inputs that are of flow: ``"tv-l1"``, or ``"dis"``, which needs no
            contributed modules of OpenCV and bears a change of light.
        batch_size: Clips in a batch.
        augment: Whether training patches and faces get random brightness, contrast and colour; flow and descriptors
            never do.
        cache: Root of the pre-magnification cache.
        seed: Seed of order, alphas and augmentation.
        num_workers: Processes of the training loader, and of reading and cropping before the magnifier.

    Raises:
        GammerError: If a setting, the data set, a frame or the magnifier is not usable.

    Source: paper Sec. 2.2, Eq. 7; Sec. 3.3 for the alphas.
    """

    hparams: AttributeDict  # the settings below; Lightning declares any mapping
    trainer: pl.Trainer  # set before any loader is asked for

    def __init__(
        self,
        roots: dict[str, str | None],
        class_set: str = "five",
        clip_list: str | None = None,
        apex: ApexMethod = "middle",
        magnifier: str = "st-memm-small",
        alphas: Sequence[float] = (5, 8, 10, 12, 15, 20),
        train_alphas: Sequence[float] = (8, 10, 12, 15),
        eval_alpha: float = 5.0,
        input: str = "apex",
        patch_size: int = 16,
        size: int = 28,
        flow_estimator: str = TV_L1,
        batch_size: int = 32,
        augment: bool = True,
        cache: str = "cache/premagnified",
        seed: int = 0,
        num_workers: int = 0,
    ):
        super().__init__()
        self.save_hyperparameters()
        h = self.hparams  # whose paths become text: checkpoints are read as plain data only
        h.roots = {name: root and str(root) for name, root in h.roots.items()}
        for name in ("class_set", "clip_list", "magnifier", "cache"):
            h[name] = h[name] and str(h[name])
        self.alphas = check_alphas(alphas)
        self.train_alphas = check_alphas(train_alphas)
        (self.eval_alpha,) = check_alphas([eval_alpha])
        self._check_settings()
        self.clips: list[Clip] = []

    @property
    def input_kind(self) -> Input:
        """The input that the setting names."""
        return INPUTS[self.hparams.input]

    @property
    def input_size(self) -> int:
        """What the input is computed with: ``patch_size`` or ``size``, px."""
        return self.hparams[self.input_kind.size_setting]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one clip's input."""
        return self.input_kind.shape(self.input_size)

    def _check_settings(self) -> None:
        check_choice("data.input", self.hparams.input, tuple(INPUTS))
        check_choice("data.flow_estimator", self.hparams.flow_estimator, FLOW_ESTIMATORS)
        check_choice("data.apex", self.hparams.apex, METHODS)
        check_class_set(self.hparams.class_set)
        for name, low, high in (
            ("patch_size", 1, CROP),
            ("size", 1, MAX_SIZE),
            ("batch_size", 1, MAX_COUNT),
            ("num_workers", 0, MAX_WORKERS),
        ):
            check_range(f"data.{name}", self.hparams[name], low, high)
        check_seed("data.seed", self.hparams.seed)
        absent = set(self._used_alphas()) - {*self.alphas, RAW}
        if absent:
            raise GammerError(
                f"train_alphas {self.train_alphas}, eval_alpha {self.eval_alpha}, but alphas {self.alphas}",
                "training and evaluation alphas are among data.alphas, or 1 for the raw apex",
                "add them to data.alphas",
            )
        check_input(self.hparams.input, self._used_alphas(), self.hparams.flow_estimator)

    def _used_alphas(self) -> list[float]:
        return list(dict.fromkeys([*self.train_alphas, self.eval_alpha]))

    def prepare_data(self) -> None:
        """Pre-magnify what the cache lacks, on the machine's best device, and compute inputs from it."""
        clips, _, _ = self._read_clips()
        h = self.hparams
        report = premagnify(clips, self.alphas, h.magnifier, h.cache, workers=h.num_workers)
        lines = list(self._class_notes)
        for clip in clips:
            lines += clip.notes
        print("\n".join([*lines, str(report)]))
        if self.input_kind.is_cached:
            compute_inputs(self._face_clips(self._entries(clips)), h.input, self.input_size)

    def _entries(self, clips: Sequence[Clip]) -> list[CacheEntry]:
        fingerprint = load_magnifier(self.hparams.magnifier).fingerprint
        return [CacheEntry(clip, fingerprint, self.hparams.cache) for clip in clips]

    def _face_clips(self, entries: Sequence[CacheEntry]) -> list[FaceClip]:
        """Return each clip at each used alpha, all alphas of a clip in a row."""
        clips = []
        for entry in entries:
            for alpha in self._used_alphas():
                clips.append(FaceClip(entry, alpha, self.hparams.flow_estimator))
        return clips

    def refuse_without_action_units(self, network: str) -> None:
        """Refuse data sets whose clips are not annotated with action units, and clips whose units cannot be read.

        Args:
            network: What needs them.

        Raises:
            GammerError: Naming the data sets, or the clips.
        """
        clips, _, _ = self._labelled
        with_units = {clip.dataset for clip in clips if clip.action_units}
        without_units = {clip.dataset for clip in clips} - with_units
        if without_units:
            raise GammerError(
                f"{', '.join(sorted(without_units))} has no action units",
                f"{network} learns them with the classes",
                "leave the data set out of data.roots, or choose another model.network",
            )
        faults = unit_faults(clips)
        if faults:
            examples = [f"{key}: {fault}" for key, fault in faults.items()][:5]
            raise GammerError(
                f"the action units of {len(faults)} clips cannot be read: {'; '.join(examples)}",
                f"{network} learns the action units of every clip with the classes",
                "correct these cells of the coding workbook, or choose another model.network",
            )

    def annotated(self) -> tuple[list[str], Labels, tuple[str, ...]]:
        """Return what annotation says, before a frame is read: ``subjects``, ``labels`` and ``class_names``.

        Raises:
            GammerError: If a clip is too short for ``data.input``.
        """
        clips, labels, names = self._labelled
        refuse_short(clips, self.hparams.input)
        return _subjects(clips), labels, names

    @cached_property
    def _labelled(self) -> tuple[list[Clip], Labels, tuple[str, ...]]:
        h = self.hparams
        clips = read_datasets(h.roots)
        self._class_notes = class_set_notes(clips, h.class_set)
        return class_labels(clips, h.class_set, h.clip_list)

    def _read_clips(self) -> tuple[list[Clip], Labels, tuple[str, ...]]:
        clips, labels, names = self._labelled
        return with_apexes(clips, self.hparams.apex, self.hparams.cache), labels, names

    def setup(self, stage: str | None = None) -> None:
        """Read the clips and their inputs, once for all stages."""
        if self.clips:
            return
        clips, self.labels, self.class_names = self._read_clips()
        self.subjects = _subjects(clips)
        lines = (f"{c.key} {c.onset} {c.apex} {n}" for c, n in zip(clips, self.labels, strict=True))
        self.clip_hash = content_hash("\n".join(lines))
        self.entries = self._entries(clips)
        self.landmarks = np.stack([entry.landmarks() for entry in self.entries])
        if self.input_kind.is_cached:
            inputs = read_inputs(self._face_clips(self.entries), self.hparams.input, self.input_size)
            self.inputs = inputs.reshape(len(clips), -1, *inputs.shape[1:])
        else:
            self.inputs = cut_inputs(self.entries, self._used_alphas(), self.hparams.input, self.input_size)
        self.clips = clips

    @cached_property
    def action_units(self) -> torch.Tensor:
        """Which of `UNITS` each clip is annotated with, 1 or 0, ``(n, U)``."""
        return torch.from_numpy(unit_matrix(self.clips))

    def time_input(self, device: torch.device, clips: int = 3) -> float:
        """Return how long one clip's input takes, ms: median over a few clips, from the crops of onset and apex on.

        The time of the magnifier is in it where the input is magnified, and that of reading the frames where it is of
        the recording; that of finding the face is not.

        Args:
            device: Where the magnifier runs.
            clips: How many clips.
        """
        h = self.hparams
        times = []
        magnifier = load_magnifier(h.magnifier).to(device)
        for entry in self.entries[:clips]:
            clip = FaceClip(entry, self.eval_alpha, h.flow_estimator)
            _ = clip.pair, clip.landmarks  # read before the clock starts
            onset, apex = to_floats(entry.images([RAW]))[:, None]
            started = time.perf_counter()
            if self.eval_alpha != RAW:
                magnifier(onset.to(device), apex.to(device), [self.eval_alpha]).cpu()
            self.input_kind.compute(clip, self.input_size)
            times.append(1000 * (time.perf_counter() - started))
        return median(times)

    def images(self, clip: int, alphas: Sequence[float]) -> np.ndarray:
        """Return the crops of a clip's onset and of its apex at each alpha, for figures.

        Returns:
            uint8 RGB ``(1 + A, 256, 256, 3)``.

        Raises:
            GammerError: If an alpha was not pre-magnified.
        """
        return self.entries[clip].images(alphas)

    def train_dataloader(self) -> DataLoader:
        """Return the loader that draws alpha and augmentation anew for every clip and epoch."""
        clips = _Clips(self, PhotometricAugmentation() if self.hparams.augment else None)
        sampler = _EpochSampler(len(self.clips), len(self.train_alphas), self.hparams.seed)
        workers = self.hparams.num_workers
        return DataLoader(
            clips,
            batch_size=self.hparams.batch_size,
            sampler=sampler,
            collate_fn=_as_batch,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=start_loader_worker,
        )

    def test_dataloader(self) -> DataLoader:
        """Return the loader of every clip once, in order, at ``eval_alpha``, unaugmented."""
        position = self._used_alphas().index(self.eval_alpha)
        draws = [(clip, position, 0) for clip in range(len(self.clips))]
        size = self.hparams.batch_size
        return DataLoader(_Clips(self, None), batch_size=size, sampler=draws, collate_fn=_as_batch)

    predict_dataloader = test_dataloader

    def val_dataloader(self) -> DataLoader | list:
        """Return the same clips where the task's held-out ones are for validation; nothing otherwise."""
        return self.test_dataloader() if self.trainer.lightning_module.validates else []


def _subjects(clips: Sequence[Clip]) -> list[str]:
    return [f"{clip.dataset}/{clip.subject}" for clip in clips]


class _EpochSampler(Sampler):
    """Draws (clip, position of alpha, seed of augmentation) for an epoch, every clip once.

    All of training's chance is drawn here from (seed, epoch), hence the same for any number of workers and
    after a resume; Lightning calls ``set_epoch``.
    """

    def __init__(self, clips: int, alphas: int, seed: int):
        self.clips = clips
        self.alphas = alphas
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.clips

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        alphas = rng.integers(self.alphas, size=self.clips)
        seeds = rng.integers(2**31, size=self.clips)
        clips = rng.permutation(self.clips)
        yield from zip(clips.tolist(), alphas.tolist(), seeds.tolist(), strict=True)


class _Clips(Dataset):
    """Whole batches by (clip, position of alpha, seed of augmentation)."""

    def __init__(self, data: MagnifiedClips, augmentation: PhotometricAugmentation | None):
        self.input = data.hparams.input  # its name, which workers that are spawned can be given
        self.augmentation = augmentation
        self.inputs = data.inputs
        self.labels = torch.tensor(data.labels)
        self.alphas = torch.tensor(data._used_alphas())

    def __getitems__(self, draws: Sequence[tuple[int, int, int]]) -> dict[str, torch.Tensor]:
        clips, positions, _ = torch.tensor(draws).T
        inputs = np.stack([self._draw(clip, position, seed) for clip, position, seed in draws])
        return {
            "input": INPUTS[self.input].network_input(torch.from_numpy(inputs)),
            "label": self.labels[clips],
            "clip": clips,
            "alpha": self.alphas[positions],
        }

    def _draw(self, clip: int, position: int, seed: int) -> np.ndarray:
        """Return a clip's input at an alpha, augmented if it is a picture."""
        values = self.inputs[clip, position]
        if self.augmentation and INPUTS[self.input].is_picture:
            return self.augmentation(values, seed)
        return values


def _as_batch(batch: Batch) -> Batch:
    return batch  # `__getitems__` has collated it
