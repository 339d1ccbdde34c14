"""RecognizeTask: trains a network over all folds and seeds in one fit, and tests each fold on the clips it holds out.

The members, one network a seed and fold, train as one stacked network (`gammer_lightning.tasks.members`); a 0/1 mask
leaves out the clips that a member holds out. `gammer_lightning.tasks.held_out` predicts those.
"""

import inspect
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.parsing import AttributeDict
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from gammer_lightning.data.recognition_data import RecognitionData
from gammer_lightning.errors import GammerError
from gammer_lightning.evaluation.folds import INNER, LEAKY, PROTOCOLS, ProtocolName, Split, make_split
from gammer_lightning.evaluation.predictions import Predictions
from gammer_lightning.evaluation.results import log_results, write_figures, write_results
from gammer_lightning.evaluation.scores import scores
from gammer_lightning.faces.graph import PAPER_REGIONS, GraphName
from gammer_lightning.files import content_hash
from gammer_lightning.models.gam_mer import GamMer, LayerName
from gammer_lightning.models.networks import build_without_memory, network_class
from gammer_lightning.models.recognizer import Recognizer
from gammer_lightning.ranges import MAX_COUNT, MAX_FACTOR, check_range, check_seed
from gammer_lightning.runs.checkpoints import load_checkpoint, load_weights, read_weights
from gammer_lightning.tasks.costs import deployment_costs
from gammer_lightning.tasks.held_out import HeldOutPredictions
from gammer_lightning.tasks.label_kinds import kind_of
from gammer_lightning.tasks.members import (
    FittedMembers,
    GradientMembers,
    MemberFacts,
    Members,
    seeded,
    stack,
    start_from,
    unstack,
)
from gammer_lightning.tasks.trainer_checks import check_trainer, refuse_trainer

MAX_WIDTH = 4096
NETWORK_SETTINGS = ("regions", "graph", "layer", "depth", "heads", "width", "dropout")
"""Settings of GAM-MER; the other networks have none."""


class RecognizeTask(pl.LightningModule):
    """Micro-expression recognition over subject folds.

    Nothing is chosen by held-out clips: the last epoch counts; ``trainer.max_epochs`` fixes it beforehand. Settings are
    chosen with the protocol ``"inner"``, whose scores are of validation (``val_uf1``), and tested with ``"outer"``.

    Where a clip's label is several action units instead of one class (``data.class_set units``), networks end in a
    logit for each unit, the loss is binary cross-entropy, and the protocol is ``"lodo"`` or ``"loso"``.

    Args:
        network: ``"gam_mer"``, or a system it is compared with: a key of `gammer_lightning.models.networks.NETWORKS`.
        weights: File of weights (.safetensors, .pth, .pt) that all members start from where names and shapes agree,
            e.g. those of a pretrained backbone; None starts at random.
        regions: Facial regions whose landmarks are used: brows, nose_tip, nose_bridge, eyes, mouth, contour,
            or all.
        graph: ``raw`` or ``optimised``.
        layer: ``gat`` or ``gcn``.
        depth: Number of graph layers, 1 to 4.
        heads: Attention heads; they share the width.
        width: Features of a node.
        dropout: Probability with which a feature is dropped before the classifier.
        lr: Learning rate of Adam at the start; it falls to 0 along a cosine.
        weight_decay: Decoupled weight decay.
        seeds: Seeds of the weights; each trains all folds. Results are a mean and a spread over them.
        protocol: ``"loso"``, ``"lodo"`` (data sets), ``"kfold"`` (of subjects), ``"inner"`` or ``"outer"`` (nested
            validation), or ``"paper_holdout"``, the best reading of the paper's own split, which leaks: see
            `PROTOCOLS`.
        num_folds: Folds of ``"kfold"``, ``"inner"`` and ``"outer"``; ``"paper_holdout"`` holds out one such part.
        outer_fold: Which outer fold ``"inner"`` leaves out and ``"outer"`` holds out, from 1 on.
        member_chunk: Members that run at once; None: all on a GPU, the network's `cpu_chunk` on a CPU.

    Raises:
        GammerError: If a setting is unknown or out of range.

    Source: paper Sec. 2.2 and 3.3; learning rate, schedule and split are our choice.
    """

    hparams: AttributeDict  # the settings below; Lightning declares any mapping
    members: Recognizer
    clip_weights: Tensor
    class_weights: Tensor

    def __init__(
        self,
        network: str = "gam_mer",
        weights: str | None = None,
        regions: Sequence[str] = PAPER_REGIONS,
        graph: GraphName = "optimised",
        layer: LayerName = "gat",
        depth: int = 2,
        heads: int = 4,
        width: int = 32,
        dropout: float = 0.0,
        lr: float = 3e-3,
        weight_decay: float = 1e-4,
        seeds: Sequence[int] = (0, 1, 2),
        protocol: ProtocolName = "loso",
        num_folds: int = 5,
        outer_fold: int = 1,
        member_chunk: int | None = None,
    ):
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False  # each chunk of members runs backward before the next runs forward
        self._facts: MemberFacts | None = None
        self._check_settings()

    @property
    def data(self) -> RecognitionData:
        """The Trainer's DataModule."""
        return self.trainer.datamodule  # type: ignore[attr-defined]  # set by fit and test, declared nowhere

    @property
    def facts(self) -> MemberFacts:
        """What the members are.

        Raises:
            RuntimeError: Before `setup`, or the loading of a checkpoint, has built them.
        """
        if self._facts is None:
            raise RuntimeError("the task has no members before its setup, or the loading of a checkpoint")
        return self._facts

    def _check_settings(self) -> None:
        hp = self.hparams
        self.kind = network_class(hp.network)
        for name, low, high in (
            ("depth", 1, 4),
            ("heads", 1, MAX_WIDTH),
            ("width", 1, MAX_WIDTH),
            ("dropout", 0, 1),
            ("weight_decay", 0, MAX_FACTOR),
            ("num_folds", 2, MAX_COUNT),
            ("outer_fold", 1, MAX_COUNT),
        ):
            check_range(f"model.{name}", hp[name], low, high)
        check_range("model.lr", hp.lr, 0, MAX_FACTOR, above=True)
        if hp.member_chunk is not None:
            check_range("model.member_chunk", hp.member_chunk, 1, MAX_COUNT)
        for seed in hp.seeds:
            check_seed("model.seeds", seed)
        GamMer(2, **{key: hp[key] for key in NETWORK_SETTINGS})
        defaults = inspect.signature(type(self)).parameters
        changed = [key for key in NETWORK_SETTINGS if not _is_same(hp[key], defaults[key].default)]
        if self.kind is not GamMer and changed:
            raise GammerError(
                f"model.{changed[0]} {hp[changed[0]]} with model.network {hp.network}",
                f"model.{', model.'.join(NETWORK_SETTINGS)} are settings of gam_mer",
                "leave it out",
            )
        if not hp.seeds or len(set(hp.seeds)) < len(hp.seeds):
            raise GammerError(f"model.seeds {list(hp.seeds)}", "one or more different seeds", "change model.seeds")
        if hp.protocol not in PROTOCOLS:
            raise GammerError(
                f"model.protocol {hp.protocol!r}", f"one of {', '.join(PROTOCOLS)}", "change model.protocol"
            )

    check_trainer = staticmethod(check_trainer)

    def check_data(self, data: RecognitionData) -> None:
        """See whether the network takes the DataModule's input, before anything is computed.

        Raises:
            GammerError: If it is made for another input, or needs action units that a data set lacks.
        """
        name, network_input = self.hparams.network, data.hparams.input
        if network_input not in self.kind.inputs:
            raise GammerError(
                f"data.input {network_input} with model.network {name}",
                f"{name} is shown {' or '.join(self.kind.inputs)}",
                f"add -c experiments/baselines/{name}.yaml" if self.kind is not GamMer else "set data.input to apex",
            )
        if self.kind is GamMer:
            GamMer(2, **self._gam_mer_settings(data))
        else:
            build_without_memory(name, 2, data.input_shape)
        if self.kind.needs_action_units:
            data.refuse_without_action_units(name)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that a sweep may choose by: never a score of test clips."""
        validation = ("val_uf1", "val_uar", "val_accuracy") if self.validates else ()
        loss = () if self.kind.is_fitted else ("train_loss",)
        return (*loss, "train_accuracy", "latency_ms", "input_ms", "parameters", *validation)

    @property
    def validates(self) -> bool:
        """Whether held-out clips are for validation, and are predicted after every epoch."""
        return self.hparams.protocol == INNER

    def configure_callbacks(self) -> list[pl.Callback]:
        """Refuse trainer settings that would spoil the evaluation, and folds that cannot be, before anything starts."""
        refuse_trainer(self.trainer)
        fits_again = self.trainer.state.fn == TrainerFn.FITTING and self.trainer.max_epochs != 1
        if self.kind.is_fitted and fits_again:
            raise GammerError(
                f"trainer.max_epochs {self.trainer.max_epochs} with model.network {self.hparams.network}",
                "it is fitted once to all clips",
                "set trainer.max_epochs to 1",
            )
        self.check_data(self.data)
        self._split(*self.data.annotated())
        return []

    def setup(self, stage: str) -> None:
        """Build the members, their mask of clips and their class weights from the DataModule's clips.

        Raises:
            GammerError: If there are fewer than two subjects, or a class has no training clip in a fold.
        """
        data = self.data
        num_seeds = len(self.hparams.seeds)
        split = self._split(data.subjects, data.labels, data.class_names)
        self.folds = split.folds
        masks = np.tile(np.stack([*split.masks.values()]), (num_seeds, 1))
        weights = np.tile(np.stack(split.class_weights), (num_seeds, 1))
        self.register_buffer("clip_weights", torch.tensor(masks).float(), persistent=False)
        self.register_buffer("class_weights", torch.tensor(weights).float(), persistent=False)
        if self._facts is None:
            facts = MemberFacts(
                network=self._network_settings(data),
                folds=list(split.masks),
                class_names=list(data.class_names),
                clip_hash=data.clip_hash,
                split=self._split_hash(data),
                name=self.hparams.network,
            )
            self._build(facts)
            is_new_run = stage == "fit" and not self.trainer.ckpt_path
            if is_new_run and (self.hparams.weights or self.kind.needs_action_units):
                self._initialise(data, masks)
        if stage == "fit":
            self.training_members = self._training_members(data)

    def _split(self, subjects: Sequence[str], labels: Sequence, class_names: Sequence[str]) -> Split:
        hp = self.hparams
        return make_split(hp.protocol, subjects, labels, class_names, hp.num_folds, hp.outer_fold)

    def _training_members(self, data: RecognitionData) -> Members:
        if self.kind.is_fitted:
            seeds = np.repeat(self.hparams.seeds, len(self.facts.folds)).tolist()
            return FittedMembers(self.members, data.subjects, seeds, kind_of(data.labels))
        action_units = data.action_units if self.kind.has_own_loss else None
        return GradientMembers(self.members, self._chunks, self._backward, action_units, kind_of(data.labels))

    def _network_settings(self, data: RecognitionData) -> dict[str, Any]:
        settings = {"num_classes": len(data.class_names)}
        if self.kind.keeps_clips:
            settings["num_clips"] = len(data.clips)
        if self.kind is not GamMer:
            return settings | {"input_shape": list(data.input_shape)}
        return settings | self._gam_mer_settings(data)

    def _gam_mer_settings(self, data: RecognitionData) -> dict[str, Any]:
        _, channels, patch_size, _ = data.input_shape
        settings = {key: self.hparams[key] for key in NETWORK_SETTINGS}
        return settings | dict(channels=channels, patch_size=patch_size, regions=list(self.hparams.regions))

    def _initialise(self, data: RecognitionData, masks: np.ndarray) -> None:
        """Take pretrained weights, and the action units of each member's training clips, of ``masks`` ``(M, n)``."""
        path = self.hparams.weights
        pretrained = read_weights(path) if path else {}
        networks = [unstack(self.members, index) for index in range(len(self.names))]
        for network, mask in zip(networks, masks, strict=True):
            if path:
                start_from(network, pretrained, path)
            if self.kind.needs_action_units:
                network.see_action_units(data.action_units[torch.from_numpy(mask)])
        self.members = stack(networks)

    def _split_hash(self, data: RecognitionData) -> str:
        """Hash the clips that each fold holds out."""
        at = data.eval_alpha if self.hparams.protocol == LEAKY else "all alphas"
        folds = [(name, test.tolist()) for name, test in self.folds]
        return content_hash(str(folds), str(at))

    def _build(self, facts: MemberFacts) -> None:
        self._facts = facts
        self.names: list[str] = []
        networks: list[Recognizer] = []
        for seed in self.hparams.seeds:
            for fold in facts.folds:
                self.names.append(f"seed {seed}, fold {fold}")
                networks.append(seeded(seed, facts.network, facts.name))
        self.members = stack(networks)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the facts of the members, as plain values.

        Raises:
            GammerError: If a weight is not finite, so that the last good checkpoint stays.
        """
        weights = [p.detach().reshape(len(p), -1) for p in self.members.parameters()]
        are_finite = [weight.isfinite().all(1) for weight in weights]
        finite = torch.stack(are_finite).all(0)
        self._refuse_not_finite(finite, "weights")
        checkpoint["recognition"] = self.facts.as_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Rebuild the members, or see that those of the data are the same.

        Raises:
            GammerError: If the checkpoint is of another task, or was trained on other clips, labels or folds.
        """
        facts = MemberFacts.from_checkpoint(checkpoint, "the checkpoint")
        if self._facts is None:
            facts.build("the checkpoint")
            self._build(facts)
        elif facts.clip_hash != self._facts.clip_hash:
            raise GammerError(
                f"these clips (hash {self._facts.clip_hash[:12]}) are not the checkpoint's",
                "a run is evaluated on the clips and labels it was trained with, or subjects would leak",
                "restore the data set, or train again: gammer recognize fit",
            )
        elif facts.split != self._facts.split:
            raise GammerError(
                f"the folds of model.protocol {self.hparams.protocol} are not the checkpoint's",
                "a clip is judged by a member that held it out, or it would leak",
                "leave model.protocol, model.num_folds (and data.eval_alpha of paper_holdout) as trained, or retrain",
            )

    def configure_optimizers(self):
        """Adam with betas .9 and .999 (paper Sec. 3.3), cosine to 0 over the epochs."""
        hp = self.hparams
        adam = torch.optim.Adam(
            self.members.parameters(),
            hp.lr,
            (0.9, 0.999),
            weight_decay=hp.weight_decay,
            decoupled_weight_decay=True,
        )
        return [adam], [CosineAnnealingLR(adam, max(self.trainer.max_epochs or 1, 1))]

    def _chunks(self) -> list[slice]:
        """Return the members that run at once."""
        if not self.kind.can_be_stacked:
            size = 1
        elif self.hparams.member_chunk:
            size = self.hparams.member_chunk
        elif self.device.type == "cpu":
            size = self.kind.cpu_chunk
        else:
            size = len(self.names)
        return [slice(start, start + size) for start in range(0, len(self.names), size)]

    def smaller_chunk(self) -> int | None:
        """Return a ``member_chunk`` that needs less memory: half of the members that run at once, 8 at most.

        Returns:
            The number of members; None before `setup`, or where one runs at a time.
        """
        if self._facts is None:
            return None
        at_once = len(self.names[self._chunks()[0]])
        return min(8, at_once // 2) or None

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Train every member on the clips of the batch that it does not hold out.

        Raises:
            GammerError: If a member's loss is not finite.
        """
        optimizer = cast(LightningOptimizer, self.optimizers())  # the one that configure_optimizers returns
        optimizer.zero_grad(set_to_none=False)
        mask = self._training_mask(batch)
        metrics = self.training_members.train_batch(batch, mask, self.class_weights, self.trainer.is_last_batch)
        optimizer.step()
        self.log_dict(metrics, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(batch["clip"]))

    def _training_mask(self, batch: dict[str, Tensor]) -> Tensor:
        """Return 1 where a member trains on a clip of the batch, else 0, ``(M, B)``."""
        mask = self.clip_weights[:, batch["clip"]]
        if self.hparams.protocol == LEAKY:  # held out at the evaluation alpha only
            return mask.maximum((batch["alpha"] != self.data.eval_alpha).float())
        return mask

    def _backward(self, losses: Tensor, chunk: slice) -> None:
        self._refuse_not_finite(losses.isfinite(), "loss", chunk.start)
        self.manual_backward(losses.sum())

    def on_train_epoch_end(self) -> None:
        """Lower the learning rate."""
        schedule = cast(LRScheduler, self.lr_schedulers())  # the one that configure_optimizers returns
        schedule.step()

    def _refuse_not_finite(self, finite: Tensor, quantity: str, first: int = 0) -> None:
        if finite.all():
            return
        not_finite = finite.logical_not().nonzero()
        member = self.names[first + int(not_finite[0])]
        raise GammerError(
            f"the {quantity} of the member with {member} is not finite at step {self.trainer.global_step}",
            "training stops there; checkpoints/last.ckpt is that of the last good epoch",
            f"lower model.lr (now {self.hparams.lr}), or set trainer.precision to 32",
        )

    def deployed(self) -> Recognizer:
        """Return the first seed's network that holds out nobody."""
        return unstack(self.members, self.facts.deployed)

    def on_validation_start(self) -> None:
        """Start the predictions of the inner folds."""
        self._start_predictions()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Predict the clips of the inner folds."""
        self.held_out.predict(self.members, batch, self._chunks())

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the inner folds, pooled; none of a pass over a part of the clips."""
        if not self.held_out.is_complete:
            return
        per_seed = [scores(counts) for counts in self.predictions().confusions]
        means = {f"val_{name}": float(np.mean([values[name] for values in per_seed])) for name in per_seed[0]}
        self.log_dict(means)

    def on_test_start(self) -> None:
        """Start the predictions of every clip, and the collection of the deployed network's attention."""
        self._start_predictions()
        self.attention: list[Tensor] = []
        self.deployed_network = self.deployed().eval()

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Predict each clip by the members that hold it out, and collect the deployed network's attention."""
        self.held_out.predict(self.members, batch, self._chunks())
        if isinstance(self.deployed_network, GamMer) and self.hparams.layer == "gat":
            attention = self.deployed_network.attention(batch["input"]).float()
            self.attention.append(attention.mean(1).cpu())

    def on_test_epoch_end(self) -> None:
        """Write the results into the run folder and to the loggers.

        Raises:
            GammerError: If not every clip was tested.
        """
        data = self.data
        run = Path(self.trainer.default_root_dir)
        if not self.held_out.is_complete:
            raise GammerError(
                f"only {self.held_out.num_predicted} of {len(data.clips)} clips have a prediction",
                "results count every clip once",
                "leave trainer.limit_test_batches and trainer.fast_dev_run unset",
            )
        predictions = self.predictions()
        results = write_results(run, predictions)
        attention = torch.cat(self.attention).mean(0).numpy() if self.attention else None
        graph = (self.hparams.regions, self.hparams.graph, attention) if self.kind is GamMer else None
        write_figures(run, predictions, data, graph)
        log_results(self.trainer.loggers, run, predictions, data)
        part = "val" if self.validates else "test"
        self.log_dict({f"{part}_{name}": value for name, value in results.mean.items()})
        self.log_dict(deployment_costs(self.deployed_network, data, self.device, self.trainer.precision_plugin))

    def _start_predictions(self) -> None:
        self.held_out = HeldOutPredictions(self.data, self.folds, self.facts.folds, self.hparams.seeds)

    def predict_held_out(self, batches: Iterable[dict[str, Tensor]]) -> Predictions:
        """Predict clips by the members that hold them out, with the weights of now.

        Args:
            batches: Those of the test loader, on the task's device.

        Returns:
            As `predictions`.
        """
        self._start_predictions()
        for batch in batches:
            self.held_out.predict(self.members, batch, self._chunks())
        return self.predictions()

    def predictions(self) -> Predictions:
        """Return the latest predictions of the clips that a fold holds out, in the clips' order."""
        return self.held_out.predictions(self.hparams.protocol)


def deployed_model(checkpoint: str | Path) -> Recognizer:
    """Read the network to deploy: the first seed's member that held out nobody.

    Raises:
        GammerError: If the file is missing, corrupt, holds more than plain data, or is of another model.
    """
    state = load_checkpoint(checkpoint)
    facts = MemberFacts.from_checkpoint(state, checkpoint)
    network = facts.build(checkpoint)
    weights = {}
    for name, stacked in state["state_dict"].items():
        weights[name.removeprefix("members.")] = stacked[facts.deployed]
    load_weights(network, weights, checkpoint)
    return network.eval()


def _is_same(value: Any, default: Any) -> bool:
    """Return whether two settings are equal; a list from YAML equals a tuple."""
    return list(value) == list(default) if isinstance(default, tuple) else value == default
