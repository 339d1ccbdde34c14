"""A task of one linear layer, to test what is around every task."""

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from gammer_lightning.errors import GammerError


class TinyModule(pl.LightningModule):
    """Fits y = 2x; stops with the exception that ``trouble`` names, at the start of epoch ``trouble_at``."""

    monitor = ("val_loss", "min")
    metrics = ("train_loss", "val_loss")

    def __init__(self, lr: float = 0.1, width: int = 1, trouble: str = "", trouble_at: int = 2):
        super().__init__()
        self.save_hyperparameters()
        if width < 1:
            raise GammerError(f"width {width}", "width is at least 1", "--model.width 1")
        self.layers = torch.nn.Sequential(torch.nn.Linear(1, width), torch.nn.Linear(width, 1))

    def loss(self, batch):
        return torch.nn.functional.mse_loss(self.layers(batch[0]), batch[1])

    def on_train_epoch_start(self):
        if self.hparams.trouble and self.current_epoch == self.hparams.trouble_at:
            kinds = {"user": KeyboardInterrupt, "mistake": GammerError, "bug": ZeroDivisionError}
            raise (kinds | {"memory": torch.OutOfMemoryError})[self.hparams.trouble]("trouble")

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.log("train_loss", loss, on_step=True, on_epoch=False)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch))

    def test_step(self, batch, batch_idx):
        self.log("test_loss", self.loss(batch))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), self.hparams.lr)


class SweptModule(TinyModule):
    """Takes the settings by which a sweep's tests tell fake_fit.py how to behave."""

    def __init__(
        self,
        sleep: float = 0.02,
        score: float = 0.25,
        fail: int = 0,
        times: int = 1,
        exit: int = 1,
        member_chunk: int | None = None,
        areas: list[str] | None = None,
    ):
        super().__init__()
        if sleep < 0:
            raise GammerError(f"sleep {sleep}", "0 or more", "--model.sleep 1")


class TinyData(pl.LightningDataModule):
    """Eight points of y = 2x in batches of two."""

    def __init__(self, batch_size: int = 2):
        super().__init__()
        self.batch_size = batch_size

    def points(self):
        x = torch.linspace(0, 1, 8)[:, None]
        return DataLoader(TensorDataset(x, 2 * x), self.batch_size)

    train_dataloader = val_dataloader = test_dataloader = points
