"""MagnifyTask: trains ST-MEMM or MagNet on motion pairs and runs the field's sub-pixel and noise protocol."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.utilities.parsing import AttributeDict
from torch import Tensor

from gammer_lightning.data.motion.render import NOISE_LEVELS, SUBPIXEL_MOTIONS
from gammer_lightning.errors import GammerError
from gammer_lightning.evaluation.magnification import protocol_row, quality, score_microfaces, write_protocol
from gammer_lightning.magnifiers.trained import PresetName, as_magnifier, build_network, load_trained
from gammer_lightning.models.magnet import MagNet
from gammer_lightning.models.st_memm import STMEMM
from gammer_lightning.ranges import MAX_FACTOR, check_range
from gammer_lightning.runs.checkpoints import load_weights

if TYPE_CHECKING:
    from gammer_lightning.data.motion.datamodule import MotionPairs


class MagnifyTask(pl.LightningModule):
    """Train and test a magnification network.

    Args:
        preset: "small" or "base" (see `STMEMM`), or "magnet" (`MagNet`), the network of Oh et al. 2018.
        lr: Peak learning rate of Adam (betas .9, .999); the paper has 1e-5 at batch 4.
        warmup: Share of the steps over which the rate rises; it then falls to zero along a cosine. 0 and 1 keep it
            constant.
        loss: Pixel loss, mean absolute ("l1") or Charbonnier with epsilon 1e-3.
        edge_weight: Weight of the absolute difference of the frames' gradients.
        regulariser_weight: Weight of the absolute difference of the deep features of the apex and of the apex in other
            colours (Oh et al. 2018, Eq. 3: what stands for shape must not see colour); of MagNet, of all of that
            equation's differences of texture and shape.
        displacement_weight: Weight of the absolute error of the displacement, in px, which generated motion pairs know
            exactly; published ones do not have it, and MagNet has no displacement: there it is 0.
        start_from: Weights to start from, for fine-tuning: a name or path as in `load_trained`; None starts at random.

    Raises:
        GammerError: The preset is unknown, a number is out of range, or MagNet has a displacement_weight.

    Source: paper Sec. 2.1 and 3.3; Oh et al., Learning-based Video Motion Magnification, ECCV 2018, Sec. 3.2 and 3.3.
    """

    hparams: AttributeDict  # the settings below; Lightning declares any mapping
    monitor = ("val_ssim", "max")
    metrics = ("train_loss", "val_psnr", "val_ssim")
    """What a sweep may choose by."""

    def __init__(
        self,
        preset: PresetName = "small",
        lr: float = 1e-3,
        warmup: float = 0.05,
        loss: Literal["l1", "charbonnier"] = "charbonnier",
        edge_weight: float = 0.5,
        regulariser_weight: float = 0.0,
        displacement_weight: float = 0.02,
        start_from: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        check_range("model.lr", lr, 0, MAX_FACTOR, above=True)
        check_range("model.warmup", warmup, 0, 1)
        for name in ("edge_weight", "regulariser_weight", "displacement_weight"):
            check_range(f"model.{name}", self.hparams[name], 0, MAX_FACTOR)
        self.network = build_network(preset)
        if isinstance(self.network, MagNet) and displacement_weight:
            raise GammerError(
                f"displacement_weight {displacement_weight} of magnet",
                "MagNet paints frames without a displacement",
                "set model.displacement_weight 0, as experiments/magnify_magnet.yaml does",
            )

    @property
    def data(self) -> "MotionPairs":
        """The Trainer's DataModule."""
        return self.trainer.datamodule  # type: ignore[attr-defined]  # set by fit and test, declared nowhere

    def setup(self, stage: str) -> None:
        """Take the weights to start from, where no checkpoint is about to be loaded.

        Raises:
            GammerError: They cannot be read, or are of another preset.
        """
        source = self.hparams.start_from
        if stage == "fit" and source and not self.trainer.ckpt_path:
            load_weights(self.network, load_trained(source).network.state_dict(), source)

    def forward(self, onset: Tensor, apex: Tensor, alpha: Tensor) -> Tensor:
        """See `STMEMM.forward` and `MagNet.forward`."""
        return self.network(onset, apex, alpha)

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """One step on rendered motion pairs (see `gammer_lightning.data.motion.render.render`)."""
        losses = self._losses(batch)
        total = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(total):
            terms = ", ".join(f"{name} {value.item():.3g}" for name, value in losses.items())
            raise GammerError(
                f"the loss became {total.item()} at step {self.global_step} ({terms})",
                "a finite loss",
                "resume from the last good checkpoint with a lower model.lr, or without 16-bit precision",
            )
        self.log_dict({f"train_{name}": value.detach() for name, value in losses.items()}, on_step=False, on_epoch=True)
        self.log("train_loss", total.detach(), prog_bar=True)
        return total

    def _losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        h = self.hparams
        if isinstance(self.network, MagNet):
            frame, terms = self._magnet(self.network, batch)
        else:
            frame, terms = self._st_memm(self.network, batch)
        error = frame.float() - batch["magnified"]
        pixel = error.abs() if h.loss == "l1" else (error**2 + 1e-6).sqrt()
        losses = {"pixel": pixel.mean()}
        if h.edge_weight:
            vertical = error.diff(dim=-2).abs().mean()
            horizontal = error.diff(dim=-1).abs().mean()
            losses["edge"] = h.edge_weight * (vertical + horizontal)
        return losses | terms

    def _st_memm(self, network: STMEMM, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The magnified frame, and the losses of what leads to it."""
        h = self.hparams
        height, width = batch["magnified"].shape[-2:]
        onset = network.encode(batch["onset"])
        apex = network.encode(batch["apex"])
        frames, displacements = network.decode(onset, apex, batch["alpha"][None])
        frame = frames[0, ..., :height, :width]
        displacement = displacements[0, ..., :height, :width].float()
        terms = {}
        if h.displacement_weight and "displacement" in batch:
            terms["displacement"] = h.displacement_weight * F.l1_loss(displacement, batch["displacement"])
        if h.regulariser_weight:
            deep = network.encode(batch["perturbed"]).deep
            terms["regulariser"] = h.regulariser_weight * F.l1_loss(deep, apex.deep)
        return frame, terms

    def _magnet(self, network: MagNet, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The magnified frame, and Oh et al.'s regularisers: texture must not see motion, nor shape colour."""
        onset, apex, recoloured, recoloured_magnified = (
            network.encode(batch[name]) for name in ("onset", "apex", "perturbed", "perturbed_magnified")
        )
        height, width = batch["magnified"].shape[-2:]
        frame = network.decode(onset, apex, batch["alpha"][None])[0, ..., :height, :width]
        parts = (
            F.l1_loss(onset.texture, apex.texture),
            F.l1_loss(recoloured.texture, recoloured_magnified.texture),
            F.l1_loss(apex.shape, recoloured.shape),
        )
        return frame, {"regulariser": self.hparams.regulariser_weight * sum(parts)}

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Keep the last good checkpoint where the weights are no longer finite."""
        if not all(weight.isfinite().all() for weight in self.parameters()):
            raise GammerError(
                f"the weights are not finite at step {self.global_step}",
                "a checkpoint holds finite weights; the one before is kept",
                "resume from it with a lower model.lr, or without 16-bit precision",
            )

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """PSNR and SSIM by alpha."""
        psnr, ssim = quality(self._magnify(batch), batch["magnified"])
        for alpha in batch["alpha"].unique():
            at_alpha = batch["alpha"] == alpha
            scores = {
                f"val_psnr_alpha{alpha:g}": psnr[at_alpha].mean(),
                f"val_ssim_alpha{alpha:g}": ssim[at_alpha].mean(),
            }
            self.log_dict(scores, batch_size=int(at_alpha.sum()), sync_dist=True)
        self.log_dict(
            {"val_psnr": psnr.mean(), "val_ssim": ssim.mean()},
            prog_bar=True,
            batch_size=len(psnr),
            sync_dist=True,
        )

    def on_test_start(self) -> None:
        """Begin the protocol's table."""
        self.protocol: list[dict] = []

    def test_step(self, batch: dict[str, Tensor], batch_index: int, dataloader_idx: int = 0) -> None:
        """One row of the protocol: all scenes at one motion or one noise level, beside the input's own floor."""
        if dataloader_idx == 0:
            row = {"test": "motion", "value": SUBPIXEL_MOTIONS[batch_index]}
        else:
            row = {"test": "noise", "value": NOISE_LEVELS[batch_index]}
        scores = protocol_row(self._magnify(batch), batch)
        self.protocol.append(row | scores)

    def on_test_end(self) -> None:
        """Write and print the tables, with true magnified apexes of microfaces."""
        if not self.trainer.is_global_zero:
            return
        root, clips = self.data.test_faces()
        faces = score_microfaces(as_magnifier(self.network, "run"), root, clips, self.device)
        print(write_protocol(Path(self.trainer.default_root_dir), pd.DataFrame(self.protocol), faces))

    def _magnify(self, batch: dict[str, Tensor]) -> Tensor:
        frames = self(batch["onset"], batch["apex"], batch["alpha"][None])
        return frames[0].float().clamp(0, 1)

    def configure_optimizers(self):
        """Adam with betas .9 and .999, warm-up and cosine decay by step."""
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr, betas=(0.9, 0.999))
        steps = self.trainer.estimated_stepping_batches
        warmup = self.hparams.warmup

        def rate(step: int) -> float:
            if warmup >= 1 or not warmup:
                return 1.0
            progress = step / max(steps, 1)
            rise = min(progress / warmup, 1)
            fall = 1 + math.cos(math.pi * min(progress, 1))
            return rise * fall / 2

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
