"""Many networks of one kind as one: stacked, run, trained, described in a checkpoint and taken apart.

A member is one network: one for each seed and fold, and one for each seed that holds out nobody.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from tqdm import tqdm

from gammer_lightning.errors import GammerError
from gammer_lightning.evaluation.folds import NOBODY
from gammer_lightning.models.networks import network_class
from gammer_lightning.models.recognizer import Recognizer
from gammer_lightning.tasks.label_kinds import SINGLE_LABEL, SingleLabel

FACT_TYPES = {"network": dict, "folds": list, "class_names": list, "clip_hash": str, "split": str, "name": str}


@dataclass(frozen=True)
class MemberFacts:
    """What a checkpoint holds of its members beside their weights: what rebuilds them, and what they trained on.

    Attributes:
        network: Settings of the network, by name.
        folds: The fold of each of a seed's members, in their order; `NOBODY` is among them.
        class_names: Names of the K classes.
        clip_hash: Hash of clips and labels.
        split: Hash of the clips that each fold holds out.
        name: Key of `gammer_lightning.models.networks.NETWORKS`.
    """

    network: dict[str, Any]
    folds: list[str]
    class_names: list[str]
    clip_hash: str
    split: str
    name: str = "gam_mer"

    @classmethod
    def from_checkpoint(cls, checkpoint: dict[str, Any], where: str | Path) -> "MemberFacts":
        """Read the facts of a checkpoint.

        Args:
            checkpoint: The checkpoint, as it was loaded.
            where: Its path, for the message.

        Raises:
            GammerError: If the checkpoint is not of a recognition run, or its facts are damaged.
        """
        if "recognition" not in checkpoint:
            raise GammerError(
                f"{where} is not of a recognition run",
                "it must come from `gammer recognize fit`",
                "check the run folder",
            )
        stored = checkpoint["recognition"]
        if not isinstance(stored, dict):
            raise _damaged(where, str(stored))
        facts: dict[str, Any] = {"name": "gam_mer", **stored}
        if facts.keys() != FACT_TYPES.keys():
            raise _damaged(where, str(facts))
        for key, value in facts.items():
            if not isinstance(value, FACT_TYPES[key]):
                raise _damaged(where, str(facts))
        names = [*facts["folds"], *facts["class_names"]]
        if not all(isinstance(name, str) for name in names) or NOBODY not in facts["folds"]:
            raise _damaged(where, str(facts))
        return cls(**facts)

    def as_dict(self) -> dict[str, Any]:
        """Return the plain values that a checkpoint holds as ``recognition``."""
        return asdict(self)

    def build(self, where: str | Path) -> Recognizer:
        """Return one network with new weights.

        Args:
            where: Path of the checkpoint, for the message.

        Raises:
            GammerError: If the network does not take its settings.
        """
        try:
            return network_class(self.name)(**self.network)
        except (TypeError, ValueError, RuntimeError) as error:
            raise _damaged(where, str(error)) from error

    @property
    def deployed(self) -> int:
        """Index of the member to deploy: the first seed's that holds out nobody."""
        return self.folds.index(NOBODY)


def _damaged(where: str | Path, details: str) -> GammerError:
    return GammerError(
        f"what {where} says of its networks is damaged: {details[:200]}",
        "it names network, folds and classes, as `gammer recognize fit` writes them",
        "copy it again, or use another checkpoint",
    )


class Members(Protocol):
    """How members train: `GradientMembers` or `FittedMembers`."""

    def train_batch(
        self, batch: dict[str, Tensor], mask: Tensor, class_weights: Tensor, is_last: bool
    ) -> dict[str, Tensor]:
        """Train all members on a batch.

        Args:
            batch: ``input`` ``(B, ...)``; ``label`` and ``clip`` ``(B,)``, of units ``label`` ``(B, K)``.
            mask: 1 where a member trains on a clip, 0 where it holds the clip out, ``(M, B)``.
            class_weights: ``(M, K)``.
            is_last: Whether it is the last batch of the epoch.

        Returns:
            Metrics of the batch by name, each a scalar.
        """


class GradientMembers:
    """Members that learn by gradients: each batch leaves its gradients in the stacked network, for an optimiser.

    Args:
        network: The stacked members, from `stack`.
        chunks: Returns the members that run at once, as slices that together are all of them.
        backward: Runs backward from the losses ``(C,)`` of the members of a chunk, which is its second argument.
        action_units: Of each clip ``(n, U)``, for networks with ``has_own_loss``; None for all others.
        label_kind: One class a clip, or several action units.
    """

    def __init__(
        self,
        network: Recognizer,
        chunks: Callable[[], Iterable[slice]],
        backward: Callable[[Tensor, slice], None],
        action_units: Tensor | None = None,
        label_kind: SingleLabel = SINGLE_LABEL,
    ):
        self.network = network
        self.chunks = chunks
        self.backward = backward
        self.action_units = action_units
        self.label_kind = label_kind

    def train_batch(
        self, batch: dict[str, Tensor], mask: Tensor, class_weights: Tensor, is_last: bool
    ) -> dict[str, Tensor]:
        """Run forward and backward, chunk after chunk; as in `Members`.

        Returns:
            ``train_loss``, the mean over members, and ``train_accuracy``.
        """
        losses: list[Tensor] = []
        correct = mask.new_zeros(())
        for chunk in self.chunks():
            clips, chunk_mask = self._training_clips(batch, mask[chunk])
            if not len(clips["clip"]):
                losses.append(chunk_mask.sum(1))
                continue
            weights = self._leaves(chunk)
            logits, own_losses = self._forward(weights, clips)
            loss = self.label_kind.losses(logits, clips["label"], chunk_mask, class_weights[chunk])
            num_clips = chunk_mask.sum(1).clamp_min(1)
            loss = loss + (chunk_mask * own_losses).sum(1) / num_clips
            self.backward(loss, chunk)
            self._store_gradients(weights, chunk)
            losses.append(loss.detach())
            correct += (self.label_kind.correct(logits, clips["label"]) * chunk_mask).sum()
        return {"train_loss": torch.cat(losses).mean(), "train_accuracy": correct / mask.sum()}

    def _training_clips(self, batch: dict[str, Tensor], mask: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return batch and mask, of a large network, which runs alone, without the clips that it holds out."""
        if self.network.can_be_stacked:
            return batch, mask
        used = mask[0] > 0
        return {name: values[used] for name, values in batch.items()}, mask[:, used]

    def _leaves(self, chunk: slice) -> dict[str, Tensor]:
        """Return the weights of a chunk as leaves, whose gradients are no larger than they are."""
        leaves = {}
        for name, weight in self.network.named_parameters():
            leaves[name] = weight.detach()[chunk].requires_grad_(weight.requires_grad)
        return leaves

    def _forward(self, weights: dict[str, Tensor], batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits ``(C, B, K)``, and the loss that the network itself gives for each clip ``(C, B)``, or 0."""
        if self.action_units is None:
            logits = run_members(self.network, weights, batch["input"])
            return logits, logits.new_zeros(logits.shape[:2])
        action_units = self.action_units.to(batch["clip"].device)[batch["clip"]]
        return run_members(self.network, weights, batch["input"], action_units)

    def _store_gradients(self, leaves: dict[str, Tensor], chunk: slice) -> None:
        for name, weight in self.network.named_parameters():
            gradient = leaves[name].grad
            if gradient is None:
                continue
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            weight.grad[chunk] = gradient


class FittedMembers:
    """Members that are fitted once to all clips of an epoch, when its last batch is there.

    Args:
        network: The stacked members, from `stack`, whose ``fit`` finds the weights of one.
        subjects: Subject of each of the n clips.
        seeds: Seed of each of the M members.
        label_kind: One class a clip, or several action units.
    """

    def __init__(
        self,
        network: Recognizer,
        subjects: Sequence[str],
        seeds: Sequence[int],
        label_kind: SingleLabel = SINGLE_LABEL,
    ):
        self.network = network
        self.label_kind = label_kind
        self.subjects = np.asarray(subjects)
        self.seeds = seeds
        self.batches: list[dict[str, Tensor]] = []
        self.masks: list[Tensor] = []

    def train_batch(
        self, batch: dict[str, Tensor], mask: Tensor, class_weights: Tensor, is_last: bool
    ) -> dict[str, Tensor]:
        """Collect the batch, and fit every member once all are there; as in `Members`.

        Returns:
            After the last batch ``train_accuracy``, else nothing.
        """
        self.batches.append(batch)
        self.masks.append(mask)
        return self._fit() if is_last else {}

    def _fit(self) -> dict[str, Tensor]:
        """Fit every member to the clips that it does not hold out, in the order of the data set."""
        order = torch.cat([batch["clip"] for batch in self.batches]).argsort()
        clips: dict[str, Tensor] = {}
        for name in self.batches[0]:
            values = torch.cat([batch[name] for batch in self.batches])
            clips[name] = values[order]
        mask = torch.cat(self.masks, 1)[:, order]
        self.batches = []
        self.masks = []

        inputs = clips["input"].cpu()
        labels = clips["label"].cpu().numpy()
        subjects = self.subjects[clips["clip"].cpu()]
        fitted = []
        for index, used in enumerate(tqdm(mask.cpu().numpy() > 0, "fit", unit="member")):
            network = unstack(self.network, index).cpu()
            network.fit(inputs[used], labels[used], subjects[used], self.seeds[index])
            fitted.append(network)

        with torch.no_grad():
            for weight, new in zip(self.network.parameters(), stack(fitted).parameters(), strict=True):
                weight.copy_(new)
            logits = stacked_logits(self.network, clips["input"])
        correct = self.label_kind.correct(logits, clips["label"])
        return {"train_accuracy": (correct * mask).sum() / mask.sum()}


def stacked_logits(members: Recognizer, clips: Tensor, chunk: slice = slice(None)) -> Tensor:
    """Classify the same clips by many networks.

    Args:
        members: Stacked networks, from `stack`.
        clips: The networks' input ``(B, ...)``, e.g. patches ``(B, 68, C, P, P)``.
        chunk: Which members.

    Returns:
        Logits ``(M, B, K)``.
    """
    weights = {name: weight[chunk] for name, weight in members.named_parameters()}
    return run_members(members, weights, clips)


def run_members(members: Recognizer, weights: dict[str, Tensor], *inputs: Tensor) -> Any:
    """Run networks on the same clips, at once or, a single one, without vmap.

    Args:
        members: Stacked networks, from `stack`.
        weights: Weights of those to run, by name, each with a first axis over M of them.
        inputs: The arguments of their ``forward``, without an axis over members.

    Returns:
        What it returns, with a first axis over the M.
    """
    num_members = len(next(iter(weights.values())))
    if num_members > 1 and members.can_be_stacked:
        return vmap(lambda member: functional_call(members, member, inputs), randomness="different")(weights)
    outputs = []
    for member in zip(*weights.values(), strict=True):
        outputs.append(functional_call(members, dict(zip(weights, member, strict=True)), inputs))
    if isinstance(outputs[0], tuple):
        return tuple(torch.stack(parts) for parts in zip(*outputs, strict=True))
    return torch.stack(outputs)


def seeded(seed: int, settings: dict[str, Any], name: str = "gam_mer") -> Recognizer:
    """Return a network whose weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return network_class(name)(**settings)


def start_from(network: nn.Module, stored: dict[str, Tensor], path: str | Path) -> None:
    """Take weights where names and shapes agree, e.g. those of a backbone that was trained elsewhere.

    Args:
        network: The network.
        stored: The weights by name.
        path: Their file, for the message.

    Raises:
        GammerError: If none agrees.
    """
    weights = network.state_dict()
    fitting = {}
    for name, value in stored.items():
        if name in weights and weights[name].shape == value.shape:
            fitting[name] = value
    if not fitting:
        raise GammerError(
            f"none of the {len(stored)} weights in {path} fits",
            f"names and shapes are those of {type(network).__name__}, e.g. {next(iter(weights))}",
            "rename them, or set model.weights to null",
        )
    network.load_state_dict(fitting, strict=False)


def stack(networks: Sequence[Recognizer]) -> Recognizer:
    """Return one network whose every parameter has a first axis over the given networks."""
    parameters, _ = stack_module_state(list(networks))
    return _with_parameters(networks[0], parameters)


def unstack(members: Recognizer, index: int) -> Recognizer:
    """Return one of the stacked networks."""
    parameters = {name: weight[index] for name, weight in members.named_parameters()}
    return _with_parameters(members, parameters)


def _with_parameters(network: Recognizer, parameters: dict[str, Tensor]) -> Recognizer:
    network = copy.deepcopy(network, {id(weight): weight for weight in network.parameters()})  # replaced below
    for name, weight in parameters.items():
        module, _, leaf = name.rpartition(".")
        owner = network.get_submodule(module)
        learns = getattr(owner, leaf).requires_grad
        setattr(owner, leaf, nn.Parameter(weight.detach().clone(), requires_grad=learns))
    return network
