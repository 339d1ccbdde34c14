"""Run by test_magnify in two processes: trains two epochs and notes which samples each process rendered."""

import os
import sys
from pathlib import Path

import pytorch_lightning as pl

from gammer_lightning.data.motion.datamodule import MotionPairs
from gammer_lightning.tasks.magnify import MagnifyTask


class NotingPairs(MotionPairs):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        if self.trainer.training:
            with Path(sys.argv[1], f"rank{os.environ.get('LOCAL_RANK', 0)}.txt").open("a") as notes:
                notes.writelines(f"{int(seed)}\n" for seed in batch["seed"])
        return super().on_after_batch_transfer(batch, dataloader_idx)


if __name__ == "__main__":
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=2,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = NotingPairs([sys.argv[2]], size=32, objects=(0, 1), batch_size=2, samples=8, num_workers=0)
    trainer.fit(MagnifyTask(), datamodule=data)
