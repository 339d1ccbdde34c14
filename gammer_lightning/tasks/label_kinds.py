"""What one class a clip and several action units a clip differ in while networks train and predict."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from gammer_lightning.evaluation.folds import is_multi_label
from gammer_lightning.evaluation.predictions import Predictions, UnitPredictions


class SingleLabel:
    """One class a clip: class-weighted cross-entropy, softmax, and the class of the largest logit.

    Attributes:
        predictions: What the predictions of a run are.
    """

    predictions: type[Predictions] = Predictions

    def losses(self, logits: Tensor, labels: Tensor, clip_weights: Tensor, class_weights: Tensor) -> Tensor:
        """Return each member's mean loss over the clips that it does not hold out.

        Args:
            logits: ``(M, B, K)``.
            labels: Class index of each clip ``(B,)``; of units 1 or 0 for each ``(B, K)``.
            clip_weights: 0 for held-out clips, else 1, ``(M, B)``.
            class_weights: ``(M, K)``.

        Returns:
            ``(M,)``; 0 for a member that holds out the whole batch.
        """
        return member_losses(logits, labels, clip_weights, class_weights)

    def correct(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return how far each member is right about each clip, from 0 to 1, ``(M, B)``; arguments as in `losses`."""
        return (logits.argmax(-1) == labels).float()

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return probabilities ``(..., K)`` of logits ``(..., K)``."""
        return logits.softmax(-1)


class MultiLabel(SingleLabel):
    """Any number of action units a clip: binary cross-entropy and a sigmoid for each; above .5 it is predicted on.

    Methods are as in `SingleLabel`. The class weights are the weights of units that are on
    (`gammer_lightning.evaluation.folds.positive_weights`), our choice: MEB weighs none. A clip is right by its share of
    right units.
    """

    predictions = UnitPredictions

    def losses(self, logits: Tensor, labels: Tensor, clip_weights: Tensor, class_weights: Tensor) -> Tensor:
        """Return each member's mean binary cross-entropy over units and clips."""
        on = labels.float().expand_as(logits)
        entropy = F.binary_cross_entropy_with_logits(
            logits.float(), on, pos_weight=class_weights[:, None], reduction="none"
        )
        return (clip_weights * entropy.mean(-1)).sum(1) / clip_weights.sum(1).clamp_min(1)

    def correct(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the share of right units."""
        return ((logits > 0) == labels.bool()).float().mean(-1)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probability of each unit by itself."""
        return logits.sigmoid()


SINGLE_LABEL = SingleLabel()
MULTI_LABEL = MultiLabel()


def kind_of(labels: Sequence) -> SingleLabel:
    """Return the kind of the labels of a DataModule, ``(n,)`` or ``(n, K)``."""
    return MULTI_LABEL if is_multi_label(labels) else SINGLE_LABEL


def member_losses(logits: Tensor, labels: Tensor, clip_weights: Tensor, class_weights: Tensor) -> Tensor:
    """Return each member's class-weighted mean cross-entropy over the clips that it does not hold out.

    Args:
        logits: ``(M, B, K)``.
        labels: ``(B,)``.
        clip_weights: 0 for held-out clips, else 1, ``(M, B)``.
        class_weights: ``(M, K)``.

    Returns:
        ``(M,)``; 0 for a member that holds out the whole batch.
    """
    entropy = F.cross_entropy(logits.movedim(-1, 1), labels.expand(len(logits), -1), reduction="none")
    weights = clip_weights * class_weights[:, labels]
    return (weights * entropy).sum(1) / weights.sum(1).clamp_min(1e-12)
