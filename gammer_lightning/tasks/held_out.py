"""Predictions of clips by the members that hold them out."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from gammer_lightning.data.recognition_data import RecognitionData
from gammer_lightning.evaluation.folds import NOBODY, PROTOCOLS, ProtocolName
from gammer_lightning.evaluation.predictions import Predictions
from gammer_lightning.models.recognizer import Recognizer
from gammer_lightning.tasks.label_kinds import kind_of
from gammer_lightning.tasks.members import stacked_logits


class HeldOutPredictions:
    """Probabilities of the classes or units of every clip by its held-out members, one a seed, filled batch by batch.

    The held-out member of a clip is that of the fold that holds the clip out; where no fold does, the member that
    holds out nobody.

    Args:
        data: The DataModule after its setup, of n clips and K classes or units.
        folds: The name of each fold and the indices of the clips that it holds out.
        member_folds: The fold of each of a seed's members, in their order; `NOBODY` is among them.
        seeds: The S seeds; the members of the first come first.

    Attributes:
        members: Index of each clip's held-out member, ``(S, n)``.
        probabilities: ``(S, n, K)`` in [0, 1], float32 on the CPU; NaN until the clip is predicted.
    """

    def __init__(
        self,
        data: RecognitionData,
        folds: Sequence[tuple[str, np.ndarray]],
        member_folds: Sequence[str],
        seeds: Sequence[int],
    ):
        self.data = data
        self.label_kind = kind_of(data.labels)
        self.folds = folds
        self.seeds = seeds
        member = torch.full((len(data.clips),), member_folds.index(NOBODY))
        for name, clips in folds:
            member[clips] = member_folds.index(name)
        first_of_seed = len(member_folds) * torch.arange(len(seeds))
        self.members = member + first_of_seed[:, None]
        shape = (*self.members.shape, len(data.class_names))
        self.probabilities = torch.full(shape, torch.nan, dtype=torch.float32)

    def predict(self, network: Recognizer, batch: dict[str, Tensor], chunks: Iterable[slice]) -> None:
        """Predict the clips of a batch.

        Args:
            network: The stacked members.
            batch: ``input`` ``(B, ...)`` on the members' device, and ``clip`` ``(B,)``.
            chunks: Members that run at once; together all of them.
        """
        clips = batch["clip"].cpu()
        members = self.members[:, clips]
        for chunk in chunks:
            in_chunk = (members >= chunk.start) & (members < chunk.stop)
            columns = in_chunk.any(0).nonzero()[:, 0]
            if not len(columns):
                continue
            inputs = batch["input"][columns.to(batch["input"].device)]
            logits = stacked_logits(network, inputs, chunk)
            probabilities = self.label_kind.probabilities(logits.float()).cpu()
            seeds, inner = in_chunk[:, columns].nonzero(as_tuple=True)
            rows = members[seeds, columns[inner]] - chunk.start
            self.probabilities[seeds, clips[columns[inner]]] = probabilities[rows, inner]

    @property
    def num_predicted(self) -> int:
        """Number of clips with a prediction of every seed."""
        is_predicted = self.probabilities.isfinite().all(-1).all(0)
        return int(is_predicted.sum())

    @property
    def is_complete(self) -> bool:
        """Whether every clip has a prediction of every seed."""
        return self.num_predicted == len(self.data.clips)

    def predictions(self, protocol: ProtocolName) -> Predictions:
        """Return the predictions of the clips that a fold holds out, in the clips' order.

        Args:
            protocol: Key of `PROTOCOLS`.
        """
        fold_of_clip: dict[int, str] = {}
        for name, clips in self.folds:
            fold_of_clip |= dict.fromkeys(clips.tolist(), name)
        held_out = sorted(fold_of_clip)
        return self.label_kind.predictions(
            [self.data.clips[clip] for clip in held_out],
            [self.data.labels[clip] for clip in held_out],
            self.data.class_names,
            self.seeds,
            self.probabilities[:, held_out].numpy(),
            [fold_of_clip[clip] for clip in held_out],
            PROTOCOLS[protocol],
        )
