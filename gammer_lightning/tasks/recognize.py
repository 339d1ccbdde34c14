"""RecognizeTask: trains a network over all folds and seeds in one fit, and evaluates each fold on what it holds out.

A member is one network: one for each seed and fold, and one for each seed that holds out nobody.
The members' parameters are stacked along a first axis M and run under vmap, or one after the other where the network
is large; a 0/1 weight per member and clip leaves clips out.
"""

import inspect
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor
from tqdm import tqdm

from gammer_lightning.errors import GammerError
from gammer_lightning.evaluation.folds import (
    INNER,
    LEAKY,
    NOBODY,
    PROTOCOLS,
    class_weights,
    make_folds,
    outer_clips,
    training_masks,
)
from gammer_lightning.evaluation.predictions import Predictions
from gammer_lightning.evaluation.results import log_results, write_figures, write_results
from gammer_lightning.evaluation.scores import scores
from gammer_lightning.faces.graph import PAPER_REGIONS, GraphName
from gammer_lightning.files import content_hash
from gammer_lightning.models.gam_mer import GamMer, LayerName
from gammer_lightning.models.networks import build_without_memory, network_class
from gammer_lightning.models.recogniser import Recogniser, count_parameters
from gammer_lightning.ranges import MAX_COUNT, MAX_FACTOR, check_range, check_seed
from gammer_lightning.runs.checkpoints import load_checkpoint, load_weights, read_weights
from gammer_lightning.tasks.members import (
    _keep_gradients,
    _leaves,
    _plain,
    member_losses,
    run_members,
    seeded,
    stack,
    stacked_logits,
    start_from,
    unstack,
)

MAX_WIDTH = 4096
NETWORK_SETTINGS = ("regions", "graph", "layer", "depth", "heads", "width", "dropout")
"""Settings of GAM-MER; the other networks have none."""


class RecognizeTask(pl.LightningModule):
    """Micro-expression recognition over subject folds.

    Nothing is chosen by held-out clips: the last epoch counts; ``trainer.max_epochs`` fixes it beforehand. Settings are
    chosen with the protocol ``"inner"``, whose scores are of validation (``val_uf1``), and judged with ``"outer"``.

    Args:
        network: ``"gam_mer"``, or a system it is compared with: a key of `gammer_lightning.models.recogniser.NETWORKS`.
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
        protocol: str = "loso",
        num_folds: int = 5,
        outer_fold: int = 1,
        member_chunk: int | None = None,
    ):
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False  # each chunk of members runs backward before the next runs forward
        self._check_settings()

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
        self._refuse_settings_of_gam_mer()
        distinct = len(hp.seeds) > 0 and len(set(hp.seeds)) == len(hp.seeds)
        for holds, what, rule in (
            (distinct, f"model.seeds {list(hp.seeds)}", "one or more different seeds"),
            (hp.protocol in PROTOCOLS, f"model.protocol {hp.protocol!r}", f"one of {', '.join(PROTOCOLS)}"),
        ):
            if not holds:
                raise GammerError(what, rule, f"change {what.split()[0]}")

    def _refuse_settings_of_gam_mer(self) -> None:
        defaults = inspect.signature(type(self)).parameters
        changed = [key for key in NETWORK_SETTINGS if _plain(self.hparams[key]) != _plain(defaults[key].default)]
        if self.kind is not GamMer and changed:
            raise GammerError(
                f"model.{changed[0]} {self.hparams[changed[0]]} with model.network {self.hparams.network}",
                f"model.{', model.'.join(NETWORK_SETTINGS)} are settings of gam_mer",
                "leave it out",
            )

    @staticmethod
    def check_trainer(trainer: Any) -> None:
        """Refuse settings of the Trainer that are not those of one optimiser step a batch over a number of epochs.

        Args:
            trainer: The parsed settings ``trainer.*``, by name.

        Raises:
            GammerError: Naming the setting.
        """
        if trainer["accumulate_grad_batches"] != 1:
            raise GammerError(
                f"trainer.accumulate_grad_batches is {trainer['accumulate_grad_batches']}",
                "the members take a step with every batch",
                "leave it out, and raise data.batch_size",
            )
        if trainer["gradient_clip_val"]:
            raise _clipped(trainer["gradient_clip_val"])
        if trainer["max_epochs"] == -1 or (trainer["max_epochs"] is None and trainer["max_steps"] != -1):
            raise GammerError(
                f"trainer.max_epochs is {trainer['max_epochs']}",
                "the learning rate falls to 0 along the epochs",
                "set trainer.max_epochs; trainer.max_steps may end it earlier",
            )

    def check_data(self, data: pl.LightningDataModule) -> None:
        """See whether the network can be shown what the DataModule shows, before anything is computed.

        Raises:
            GammerError: If it is made for another input, or needs action units that a data set lacks.
        """
        name, shown = self.hparams.network, data.hparams.input
        if shown not in self.kind.inputs:
            raise GammerError(
                f"data.input {shown} with model.network {name}",
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
        """What a sweep may choose by: never a score of test clips."""
        validation = ("val_uf1", "val_uar", "val_accuracy") if self.validates else ()
        loss = () if self.kind.is_fitted else ("train_loss",)
        return (*loss, "train_accuracy", "latency_ms", "input_ms", "parameters", *validation)

    @property
    def validates(self) -> bool:
        """Whether held-out clips are for validation, and are looked at while it trains."""
        return self.hparams.protocol == INNER

    def configure_callbacks(self) -> list[pl.Callback]:
        """Refuse trainer settings that would spoil the evaluation, and folds that cannot be, before anything starts."""
        refuse_trainer(self.trainer)
        self._refuse_epochs()
        self.check_data(self.trainer.datamodule)
        self._split(*self.trainer.datamodule.annotated())
        return []

    def _refuse_epochs(self) -> None:
        fits_again = self.trainer.state.fn == TrainerFn.FITTING and self.trainer.max_epochs != 1
        if self.kind.is_fitted and fits_again:
            raise GammerError(
                f"trainer.max_epochs {self.trainer.max_epochs} with model.network {self.hparams.network}",
                "it is fitted once to all clips",
                "set trainer.max_epochs to 1",
            )

    def setup(self, stage: str) -> None:
        """Build members, their weights per clip and per class from the DataModule's clips.

        Raises:
            GammerError: If there are fewer than two subjects, or a class has no training clip in a fold.
        """
        data = self.trainer.datamodule
        self.folds, masks, weights = self._split(data.subjects, data.labels, data.class_names)
        seeds = len(self.hparams.seeds)
        self._plain_buffer("clip_weights", np.tile(np.stack([*masks.values()]), (seeds, 1)))
        self._plain_buffer("class_weights", np.tile(np.stack(weights), (seeds, 1)))
        if not hasattr(self, "members"):
            facts = (list(masks), list(data.class_names), data.clip_hash, self._split_hash(data))
            self._build(self._network_settings(data), *facts, self.hparams.network)
            begins = stage == "fit" and not self.trainer.ckpt_path
            if begins and (self.hparams.weights or self.kind.needs_action_units):
                self._begin_weights(data, masks)

    def _split(
        self, subjects: Sequence[str], labels: Sequence[int], class_names: Sequence[str]
    ) -> tuple[list[tuple[str, np.ndarray]], dict[str, np.ndarray], list[np.ndarray]]:
        """Return the folds; by the member of each, which clips train it ``(n,)``, and the weights of its classes."""
        hp = self.hparams
        clips = (subjects, labels, hp.num_folds, hp.outer_fold)
        folds = make_folds(hp.protocol, *clips)
        masks = training_masks(folds, len(labels), outer_clips(*clips) if self.validates else ())
        return folds, masks, [class_weights(mask, labels, class_names, fold) for fold, mask in masks.items()]

    def _network_settings(self, data) -> dict[str, Any]:
        settings = {"num_classes": len(data.class_names)}
        if self.kind is not GamMer:
            return settings | {"input_shape": list(data.input_shape)}
        return settings | self._gam_mer_settings(data)

    def _gam_mer_settings(self, data) -> dict[str, Any]:
        _, channels, patch_size, _ = data.input_shape
        settings = {key: self.hparams[key] for key in NETWORK_SETTINGS}
        return settings | dict(channels=channels, patch_size=patch_size, regions=list(self.hparams.regions))

    def _begin_weights(self, data, masks: dict[str, np.ndarray]) -> None:
        """Take pretrained weights, and statistics of each fold's own training clips."""
        path = self.hparams.weights
        pretrained = read_weights(path) if path else {}
        networks = [unstack(self.members, index) for index in range(len(self.names))]
        for network, mask in zip(networks, [*masks.values()] * len(self.hparams.seeds), strict=True):
            if path:
                start_from(network, pretrained, path)
            if self.kind.needs_action_units:
                network.see_action_units(data.action_units[torch.from_numpy(mask)])
        self.members = stack(networks)

    def _plain_buffer(self, name: str, values: np.ndarray) -> None:
        self.register_buffer(name, torch.tensor(values, dtype=torch.float32), persistent=False)

    def _split_hash(self, data) -> str:
        """Hash what each member holds out."""
        at = data.eval_alpha if self.hparams.protocol == LEAKY else "all alphas"
        return content_hash(str([(name, test.tolist()) for name, test in self.folds]), str(at))

    def _build(
        self,
        network: dict,
        folds: list[str],
        class_names: list[str],
        clip_hash: str,
        split: str,
        name: str = "gam_mer",
    ) -> None:
        self.recognition = dict(
            network=network, folds=folds, class_names=class_names, clip_hash=clip_hash, split=split, name=name
        )
        self.names = [f"seed {seed}, fold {fold}" for seed in self.hparams.seeds for fold in folds]
        self.members = stack([seeded(seed, network, name) for seed in self.hparams.seeds for _ in folds])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what rebuilds the members, as plain values.

        Raises:
            GammerError: If a weight is not finite, so that the last good checkpoint stays.
        """
        weights = [p.detach().reshape(len(p), -1) for p in self.members.parameters()]
        finite = torch.stack([weight.isfinite().all(1) for weight in weights]).all(0)
        self._refuse_not_finite(finite, "weights")
        checkpoint["recognition"] = self.recognition

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Rebuild the members, or see that those of the data are the same.

        Raises:
            GammerError: If the checkpoint is of another task, or was trained on other clips, labels or folds.
        """
        facts = _facts(checkpoint, "the checkpoint")
        if not hasattr(self, "members"):
            _network(facts, "the checkpoint")
            self._build(**facts)
        elif facts["clip_hash"] != self.recognition["clip_hash"]:
            raise GammerError(
                f"these clips (hash {self.recognition['clip_hash'][:12]}) are not the checkpoint's",
                "a run is evaluated on the clips and labels it was trained with, or subjects would leak",
                "restore the data set, or train again: gammer recognize fit",
            )
        elif facts["split"] != self.recognition["split"]:
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
        return [adam], [torch.optim.lr_scheduler.CosineAnnealingLR(adam, max(self.trainer.max_epochs, 1))]

    def _chunks(self) -> Iterator[slice]:
        size = self.hparams.member_chunk or (self.kind.cpu_chunk if self.device.type == "cpu" else len(self.names))
        size = size if self.kind.can_be_stacked else 1
        return (slice(start, start + size) for start in range(0, len(self.names), size))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Train every member on the clips of the batch that it does not hold out.

        Raises:
            GammerError: If a member's loss is not finite.
        """
        if self.kind.is_fitted:
            self._remember(batch)
            return
        optimizer = self.optimizers()
        optimizer.zero_grad(set_to_none=False)
        losses, hits = [], 0.0
        weights = self._trained_by(batch)
        for chunk in self._chunks():
            own = _leaves(self.members, chunk)
            part, theirs = self._trained_on(batch, weights[chunk])
            if not len(part["clip"]):
                losses.append(theirs.sum(1))
                continue
            logits, further = self._forward(own, part)
            loss = member_losses(logits, part["label"], theirs, self.class_weights[chunk])
            loss = loss + (theirs * further).sum(1) / theirs.sum(1).clamp_min(1)
            self._refuse_not_finite(loss.isfinite(), "loss", chunk.start)
            self.manual_backward(loss.sum())
            _keep_gradients(self.members, own, chunk)
            losses.append(loss.detach())
            hits += ((logits.argmax(-1) == part["label"]) * theirs).sum()
        optimizer.step()
        figures = {"train_loss": torch.cat(losses).mean(), "train_accuracy": hits / weights.sum()}
        self.log_dict(figures, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(batch["clip"]))

    def _trained_on(self, batch: dict[str, Tensor], weights: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Spare a large network the clips of a batch that it holds out, and their weights ``(1, B)``."""
        if self.kind.can_be_stacked:
            return batch, weights
        used = weights[0] > 0
        return {name: values[used] for name, values in batch.items()}, weights[:, used]

    def _trained_by(self, batch: dict[str, Tensor]) -> Tensor:
        """Return 1 where a member is trained with a clip of the batch, else 0, ``(M, B)``."""
        weights = self.clip_weights[:, batch["clip"]]
        if self.hparams.protocol == LEAKY:  # held out at the evaluation alpha only
            return weights.maximum((batch["alpha"] != self.trainer.datamodule.eval_alpha).float())
        return weights

    def _forward(self, weights: dict[str, Tensor], batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits ``(M, B, K)`` of members in training, and a loss of their own ``(M, B)`` or 0."""
        if not self.kind.has_own_loss:
            logits = run_members(self.members, weights, batch["input"])
            return logits, logits.new_zeros(logits.shape[:2])
        action_units = self.trainer.datamodule.action_units.to(self.device)[batch["clip"]]
        return run_members(self.members, weights, batch["input"], action_units)

    def on_train_epoch_start(self) -> None:
        """Forget the clips of a network that is fitted."""
        self.seen: list[dict[str, Tensor]] = []

    def _remember(self, batch: dict[str, Tensor]) -> None:
        """Gather the clips of a network that is fitted, and fit it once all are there, before validation."""
        self.seen.append(batch)
        self.optimizers().step()  # without gradients: it counts the step, or no checkpoint would be written
        if self.trainer.is_last_batch:
            self._fit_members()

    def on_train_epoch_end(self) -> None:
        """Lower the learning rate."""
        self.lr_schedulers().step()

    def _fit_members(self) -> None:
        """Fit every member to the clips that it does not hold out, in the order of the data set."""
        data = self.trainer.datamodule
        seen = {name: torch.cat([batch[name] for batch in self.seen]) for name in self.seen[0]}
        seen = {name: values[seen["clip"].argsort()] for name, values in seen.items()}
        weights, inputs, labels = self._trained_by(seen), seen["input"].cpu(), seen["label"].cpu().numpy()
        subjects = np.asarray(data.subjects)[seen["clip"].cpu()]
        seeds = np.repeat(self.hparams.seeds, len(self.recognition["folds"])).tolist()
        fitted = []
        for index, own in enumerate(tqdm(weights.cpu().numpy() > 0, "fit", unit="member")):
            network = unstack(self.members, index).cpu()
            network.fit(inputs[own], labels[own], subjects[own], seeds[index])
            fitted.append(network)
        with torch.no_grad():
            for weight, new in zip(self.members.parameters(), stack(fitted).parameters(), strict=True):
                weight.copy_(new)
        hits = (stacked_logits(self.members, seen["input"]).argmax(-1) == seen["label"]) * weights
        self.log("train_accuracy", hits.sum() / weights.sum(), prog_bar=True)

    def _refuse_not_finite(self, finite: Tensor, what: str, first: int = 0) -> None:
        if finite.all():
            return
        member = self.names[first + int(finite.logical_not().nonzero()[0])]
        raise GammerError(
            f"the {what} of the member with {member} is not finite at step {self.trainer.global_step}",
            "training stops there; checkpoints/last.ckpt is that of the last good epoch",
            f"lower model.lr (now {self.hparams.lr}), or set trainer.precision to 32",
        )

    def deployed(self) -> Recogniser:
        """Return the first seed's network that holds out nobody."""
        return unstack(self.members, self.recognition["folds"].index(NOBODY))

    def _begin_judging(self) -> None:
        """Note for each seed and clip the member that held the clip out; NOBODY's where none did."""
        data, folds = self.trainer.datamodule, self.recognition["folds"]
        of_clip = torch.full((len(data.clips),), folds.index(NOBODY))
        for name, test in self.folds:
            of_clip[test] = folds.index(name)
        self.judges = of_clip + len(folds) * torch.arange(len(self.hparams.seeds))[:, None]
        self.probabilities = torch.full((*self.judges.shape, len(data.class_names)), torch.nan)

    def _judge(self, batch: dict[str, Tensor]) -> None:
        """Predict each clip by the members that held out its subject."""
        clips = batch["clip"].cpu()
        judges = self.judges[:, clips]
        for chunk in self._chunks():
            ours = (judges >= chunk.start) & (judges < chunk.stop)
            shown = ours.any(0).nonzero()[:, 0]
            if len(shown):
                logits = stacked_logits(self.members, batch["input"][shown.to(self.device)], chunk)
                seeds, among = ours[:, shown].nonzero(as_tuple=True)
                members = judges[seeds, shown[among]] - chunk.start
                self.probabilities[seeds, clips[shown[among]]] = logits.float().softmax(-1).cpu()[members, among]

    def on_validation_start(self) -> None:
        """Begin to judge the clips of the inner folds."""
        self._begin_judging()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Predict the clips of the inner folds."""
        self._judge(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the inner folds, pooled; none of a pass over a part of the clips."""
        if self.probabilities.isfinite().all():
            confusions = self.predictions().confusions
            per_seed = [scores(counts) for counts in confusions]
            self.log_dict({f"val_{name}": np.mean([s[name] for s in per_seed]) for name in per_seed[0]})

    def on_test_start(self) -> None:
        """Begin to judge every clip, and to collect what the deployed network attends to."""
        self._begin_judging()
        self.attention = []
        self.deployed_network = self.deployed().eval()

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Predict each clip by the members that held out its subject; see where the deployed network looks."""
        self._judge(batch)
        self.one_clip = batch["input"][:1]
        if self.kind is GamMer and self.hparams.layer == "gat":
            self.attention.append(self.deployed_network.attention(batch["input"]).float().mean(1).cpu())

    def on_test_epoch_end(self) -> None:
        """Write the results into the run folder and to the loggers.

        Raises:
            GammerError: If not every clip was tested.
        """
        data, run = self.trainer.datamodule, Path(self.trainer.default_root_dir)
        tested = int(self.probabilities.isfinite().all(-1).all(0).sum())
        if tested < len(data.clips):
            raise GammerError(
                f"only {tested} of {len(data.clips)} clips have a prediction",
                "results count every clip once",
                "leave trainer.limit_test_batches and trainer.fast_dev_run unset",
            )
        predictions = self.predictions()
        summary = write_results(run, predictions)
        attention = torch.cat(self.attention).mean(0).numpy() if self.attention else None
        graph = (self.hparams.regions, self.hparams.graph, attention) if self.kind is GamMer else None
        write_figures(run, predictions, data, graph)
        log_results(self.trainer.loggers, run, predictions, data)
        part = "val" if self.validates else "test"
        self.log_dict({f"{part}_{name}": value for name, value in summary["mean"].items()})
        costs = {"latency_ms": self._latency(), "input_ms": data.time_input(self.device)}
        self.log_dict(costs | {"parameters": float(count_parameters(self.deployed_network))})

    def _latency(self, repeats: int = 30) -> float:
        """Return the median time of the deployed network for the patches of one clip, ms."""
        times = []
        for _ in range(repeats):
            started = time.perf_counter()
            with self.trainer.precision_plugin.forward_context():
                self.deployed_network(self.one_clip).argmax(-1).item()  # waits for a GPU, too
            times.append(1000 * (time.perf_counter() - started))
        return median(times)

    def judge(self, batches: Iterable[dict[str, Tensor]]) -> None:
        """Predict clips by the members that held them out, as these are now; `predictions` returns them.

        Args:
            batches: Those of the test loader, on the task's device.
        """
        self._begin_judging()
        for batch in batches:
            self._judge(batch)

    def predictions(self) -> Predictions:
        """Return those of the clips that a fold holds out, in the clips' order."""
        data = self.trainer.datamodule
        folds = {int(index): name for name, test in self.folds for index in test}
        held_out = sorted(folds)
        return Predictions(
            [data.clips[index] for index in held_out],
            [data.labels[index] for index in held_out],
            data.class_names,
            self.hparams.seeds,
            self.probabilities[:, held_out].numpy(),
            [folds[index] for index in held_out],
            PROTOCOLS[self.hparams.protocol],
        )


def deployed_model(checkpoint: str | Path) -> Recogniser:
    """Read the network to deploy: the first seed's member that held out nobody.

    Raises:
        GammerError: If the file is missing, corrupt, holds more than plain data, or is of another model.
    """
    state = load_checkpoint(checkpoint)
    facts = _facts(state, checkpoint)
    network = _network(facts, checkpoint)
    index = facts["folds"].index(NOBODY)
    weights = {name.removeprefix("members."): stacked[index] for name, stacked in state["state_dict"].items()}
    load_weights(network, weights, checkpoint)
    return network.eval()


def refuse_trainer(trainer: pl.Trainer) -> None:
    """Refuse what would let members or held-out clips act on each other.

    Raises:
        GammerError: On gradient clipping, several devices, or a monitor that is no training metric.
    """
    if trainer.gradient_clip_val:
        raise _clipped(trainer.gradient_clip_val)
    if trainer.world_size > 1:
        raise GammerError(
            f"{trainer.world_size} devices",
            "all folds train together on one device",
            "set trainer.devices to 1, and run other experiments on the other devices",
        )
    for callback in trainer.callbacks:
        monitor = getattr(callback, "monitor", None)
        if monitor and not monitor.startswith("train") and monitor not in ("epoch", "step"):
            raise GammerError(
                f"{type(callback).__name__} monitors `{monitor}`",
                "no metric of held-out clips chooses an epoch, and there are no other validation clips",
                "fix trainer.max_epochs beforehand, or monitor train_loss",
            )


def _clipped(value: float) -> GammerError:
    return GammerError(
        f"trainer.gradient_clip_val is {value}",
        "a gradient norm over all members would let folds act on each other",
        "leave it unset, and lower model.lr if training is unstable",
    )


FACTS = {"network": dict, "folds": list, "class_names": list, "clip_hash": str, "split": str, "name": str}
"""What a checkpoint says of its members, and of which type."""


def _facts(checkpoint: dict[str, Any], where: str | Path) -> dict[str, Any]:
    """Return what rebuilds the members.

    Raises:
        GammerError: If the checkpoint says nothing of them, or what it says is damaged.
    """
    if "recognition" not in checkpoint:
        raise GammerError(
            f"{where} is not of a recognition run",
            "it must come from `gammer recognize fit`",
            "check the run folder",
        )
    facts = checkpoint["recognition"]
    if isinstance(facts, dict):
        facts = {"name": "gam_mer"} | facts
    names = [facts["folds"], facts["class_names"]] if _are_typed(facts) else [[None]]
    if not all(isinstance(name, str) for each in names for name in each) or NOBODY not in names[0]:
        raise _damaged_facts(where, str(facts))
    return facts


def _are_typed(facts: Any) -> bool:
    return (
        isinstance(facts, dict)
        and facts.keys() == FACTS.keys()
        and all(map(isinstance, facts.values(), map(FACTS.get, facts)))
    )


def _damaged_facts(where: str | Path, details: str) -> GammerError:
    return GammerError(
        f"what {where} says of its networks is damaged: {details[:200]}",
        "it names network, folds and classes, as `gammer recognize fit` writes them",
        "copy it again, or use another checkpoint",
    )


def _network(facts: dict[str, Any], where: str | Path) -> Recogniser:
    """Build a checkpoint's network with new weights."""
    try:
        return network_class(facts["name"])(**facts["network"])
    except (TypeError, ValueError, RuntimeError) as error:
        raise _damaged_facts(where, str(error)) from error
