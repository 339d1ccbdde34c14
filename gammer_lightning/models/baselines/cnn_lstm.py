"""CNN-LSTM on a sequence: a CNN of each frame that also knows the state of the expression, then an LSTM."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gammer_lightning.models.baselines.sequences import changes
from gammer_lightning.models.recognizer import SEQUENCE, Recognizer, check_shape

SIZE, FEATURES = 64, 512
STATES = (0, 1, 1, 1, 2, 2, 3, 3, 3, 4)
"""State of each frame of a sequence: onset, onset to apex, apex, apex to offset, offset."""


class FrameNetwork(nn.Module):
    """Three convolutions with maximum pooling and a full connection: 64x64 grey frames to vectors of 512."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * (SIZE // 8) ** 2, FEATURES),
            nn.ReLU(),
        )

    def forward(self, frames: Tensor) -> Tensor:
        """Map frames ``(B, 1, 64, 64)`` to vectors ``(B, 512)``."""
        return self.layers(frames.contiguous(memory_format=torch.channels_last))


class CnnLstm(Recognizer):
    """CNN of each of ten frames, constrained by the states of the expression, and an LSTM over them.

    The constraint is a loss: the features of a frame have to tell its state, from onset over apex to offset. A
    sequence does not say where its apex lies, so it is taken to be in the middle. Frames are shown as their `changes`
    from the first. The paper trains the CNN first, and the LSTM on what it has learnt; here both train at once, by
    class after the LSTM and by state before it. 4.2 M parameters; no published count could be looked up.

    Args:
        num_classes: Number of classes K.
        input_shape: ``(10, 3, 64, 64)``.

    Raises:
        GammerError: If the input has another shape.

    Source: Kim, Baddar, Ro, "Micro-Expression Recognition with Expression-State Constrained Spatio-Temporal Feature
    Representations", ACM MM 2016. Only its abstract could be looked up: the form of the
    constraint and all sizes are our choice.
    """

    inputs = ("sequence",)
    can_be_stacked = False
    has_own_loss = True

    def __init__(self, num_classes: int, input_shape: Sequence[int]):
        super().__init__()
        check_shape(self, input_shape, (SEQUENCE, 3, SIZE, SIZE), f"data.input sequence, data.size {SIZE}")
        self.frame = FrameNetwork()
        self.state = nn.Linear(FEATURES, max(STATES) + 1)
        self.lstm = nn.LSTMCell(FEATURES, FEATURES)
        self.classifier = nn.Linear(FEATURES, num_classes)

    def forward(self, sequence: Tensor, action_units: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Map frames in [-1, 1] ``(B, 10, 3, 64, 64)`` to logits ``(B, K)``.

        Args:
            sequence: The frames.
            action_units: Given in training, and not used.

        Returns:
            Logits; in training also the loss of the frames' states of each clip ``(B,)``.
        """
        grey = changes(sequence).mean(2)
        features = self.frame(grey.flatten(0, 1)[:, None]).unflatten(0, (-1, SEQUENCE))
        first, *following = features.unbind(1)
        memory = self.lstm(first)
        for frame in following:
            memory = self.lstm(frame, memory)
        logits = self.classifier(memory[0])
        if action_units is None:
            return logits
        states = torch.tensor(STATES, device=sequence.device).expand(len(sequence), -1)
        return logits, F.cross_entropy(self.state(features).movedim(-1, 1), states, reduction="none").mean(1)
