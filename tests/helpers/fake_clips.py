"""A DataModule with the attributes of MagnifiedClips and random patches that can be learned."""

from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from gammer_lightning.data.clips.clip import Clip
from gammer_lightning.files import content_hash
from gammer_lightning.models.recognizer import UNITS


class FakeClips(pl.LightningDataModule):
    """Clips of ``subjects`` x 3 classes x ``repeats``: a pattern for each class, of ``shape`` or in every patch."""

    alphas, eval_alpha = (5.0, 8.0), 5.0

    def __init__(
        self,
        subjects: int = 3,
        repeats: int = 2,
        patch_size: int = 8,
        batch_size: int = 8,
        noise: float = 0.5,
        seed: int = 0,
        input: str = "apex",
        shape: tuple[int, ...] = (),
    ):
        super().__init__()
        self.save_hyperparameters()
        self.input_shape = shape or (68, 3, patch_size, patch_size)
        self.class_names = ("negative", "positive", "surprise")
        keys = [(s, k, r) for s in range(subjects) for k in range(3) for r in range(repeats)]
        self.clips = [
            Clip(
                "microfaces",
                f"{s + 1:02}",
                f"EP{k:02}_{r:02}",
                (Path("1"),),
                (1,),
                1,
                1,
                1,
                "4",
                self.class_names[k],
            )
            for s, k, r in keys
        ]
        self.labels = [k for _, k, _ in keys]
        self.subjects = [f"{clip.dataset}/{clip.subject}" for clip in self.clips]
        self.clip_hash = content_hash(str(keys))
        rng = np.random.default_rng(seed)
        patterns = rng.normal(size=(3, *self.input_shape))
        noises = rng.normal(size=(len(keys), *self.input_shape))
        self.patches = torch.tensor(patterns[self.labels] + noise * noises, dtype=torch.float32)
        self.landmarks = rng.uniform(20, 236, (len(keys), 68, 2)).astype(np.float32)

    @property
    def action_units(self):
        return torch.nn.functional.one_hot(torch.tensor(self.labels), len(UNITS)).float()

    def annotated(self):
        return self.subjects, self.labels, self.class_names

    def refuse_without_action_units(self, network):
        assert all(clip.action_units for clip in self.clips)

    def time_input(self, device):
        return 1.0

    def images(self, clip, alphas):
        return np.full((1 + len(alphas), 256, 256, 3), 128, np.uint8)

    def items(self):
        return [
            {
                "input": self.patches[i],
                "label": torch.tensor(k),
                "clip": torch.tensor(i),
                "alpha": torch.tensor(5.0),
            }
            for i, k in enumerate(self.labels)
        ]

    def train_dataloader(self):
        order = torch.Generator().manual_seed(self.hparams.seed)
        return DataLoader(self.items(), self.hparams.batch_size, shuffle=True, generator=order)

    def test_dataloader(self):
        return DataLoader(self.items(), self.hparams.batch_size)

    def val_dataloader(self):
        return self.test_dataloader() if self.trainer.lightning_module.validates else []
