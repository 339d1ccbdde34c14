"""What the recognition task asks of a DataModule."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from gammer_lightning.data.clips.clip import Clip


class RecognitionData(Protocol):
    """The members of `gammer_lightning.data.datamodule.MagnifiedClips` that RecognizeTask and its figures use.

    ``hparams``, ``input_shape``, ``alphas``, ``eval_alpha``, ``annotated`` and ``refuse_without_action_units`` are
    there before ``setup``, all others after it. A batch is a dict: ``input`` float32 ``(B, *input_shape)``; ``label``
    and ``clip`` (index into ``clips``) int64 ``(B,)``; ``alpha`` float32 ``(B,)``. Of action units ``label`` is 1 or 0
    for each, int64 ``(B, K)``.

    Attributes:
        hparams: The settings; ``hparams.input`` names the input.
        input_shape: Shape of one clip's input.
        alphas: Magnification factors of which there are images.
        eval_alpha: The magnification factor of the test.
        clips: The n clips.
        labels: Class index of each clip, or 1 or 0 for each unit of each clip ``(n, K)``.
        class_names: Names of the K classes or units.
        subjects: ``"dataset/subject"`` of each clip.
        clip_hash: Hash of clips and labels.
        landmarks: ``(n, 68, 2)`` px in the crop.
    """

    hparams: Any
    alphas: Sequence[float]
    eval_alpha: float
    clips: Sequence[Clip]
    labels: Sequence
    class_names: Sequence[str]
    subjects: Sequence[str]
    clip_hash: str
    landmarks: np.ndarray

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one clip's input."""

    @property
    def action_units(self) -> Tensor:
        """1 where a clip is annotated with an action unit, else 0, ``(n, U)``."""

    def annotated(self) -> tuple[Sequence[str], Sequence, Sequence[str]]:
        """Return ``subjects``, ``labels`` and ``class_names`` before a frame is read."""

    def refuse_without_action_units(self, network: str) -> None:
        """Raise GammerError if a clip has no action units that can be read."""

    def test_dataloader(self) -> DataLoader:
        """Return the loader of every clip once, in order, at ``eval_alpha``."""

    def time_input(self, device: torch.device) -> float:
        """Return the median time of one clip's input, ms."""

    def images(self, clip: int, alphas: Sequence[float]) -> np.ndarray:
        """Return a clip's onset and its apex at each alpha, uint8 RGB ``(1 + A, H, W, 3)``."""
