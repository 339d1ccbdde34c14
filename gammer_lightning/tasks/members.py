"""Many networks of one kind as one: stacked, run, trained and taken apart."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from gammer_lightning.errors import GammerError
from gammer_lightning.models.networks import network_class
from gammer_lightning.models.recogniser import Recogniser


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


def stacked_logits(members: Recogniser, clips: Tensor, chunk: slice = slice(None)) -> Tensor:
    """Classify the same clips by many networks.

    Args:
        members: Stacked networks, from `stack`.
        clips: What the networks are shown ``(B, ...)``, e.g. patches ``(B, 68, C, P, P)``.
        chunk: Which members.

    Returns:
        Logits ``(M, B, K)``.
    """
    return run_members(members, {name: weight[chunk] for name, weight in members.named_parameters()}, clips)


def run_members(members: Recogniser, weights: dict[str, Tensor], *shown: Tensor) -> Any:
    """Run networks on the same clips, at once or, a single one, without vmap.

    Args:
        members: Stacked networks, from `stack`.
        weights: Weights of those to run, by name, each with a first axis over M of them.
        shown: What their ``forward`` takes, without an axis over members.

    Returns:
        What it returns, with a first axis over the M.
    """
    if len(next(iter(weights.values()))) > 1 and members.can_be_stacked:
        return vmap(lambda one: functional_call(members, one, shown), randomness="different")(weights)
    each = [
        functional_call(members, dict(zip(weights, one, strict=True)), shown)
        for one in zip(*weights.values(), strict=True)
    ]
    return tuple(map(torch.stack, zip(*each, strict=True))) if isinstance(each[0], tuple) else torch.stack(each)


def _leaves(members: Recogniser, chunk: slice) -> dict[str, Tensor]:
    """Return the weights of some members as leaves, whose gradients are no larger than they are."""
    return {name: w.detach()[chunk].requires_grad_(w.requires_grad) for name, w in members.named_parameters()}


def _keep_gradients(members: Recogniser, leaves: dict[str, Tensor], chunk: slice) -> None:
    for name, weight in members.named_parameters():
        if (gradient := leaves[name].grad) is not None:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            weight.grad[chunk] = gradient


def seeded(seed: int, settings: dict[str, Any], name: str = "gam_mer") -> Recogniser:
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
    own = network.state_dict()
    agree = {key: value for key, value in stored.items() if key in own and own[key].shape == value.shape}
    if not agree:
        raise GammerError(
            f"none of the {len(stored)} weights in {path} fits",
            f"names and shapes are those of {type(network).__name__}, e.g. {next(iter(own))}",
            "rename them, or set model.weights to null",
        )
    network.load_state_dict(agree, strict=False)


def stack(networks: Sequence[Recogniser]) -> Recogniser:
    """Return one network whose every parameter has a first axis over the given networks."""
    return _with_parameters(networks[0], stack_module_state(list(networks))[0])


def unstack(members: Recogniser, index: int) -> Recogniser:
    """Return one of the stacked networks."""
    return _with_parameters(members, {name: weight[index] for name, weight in members.named_parameters()})


def _with_parameters(network: Recogniser, parameters: dict[str, Tensor]) -> Recogniser:
    network = copy.deepcopy(network, {id(weight): weight for weight in network.parameters()})  # replaced below
    for name, weight in parameters.items():
        module, _, leaf = name.rpartition(".")
        owner = network.get_submodule(module)
        learns = getattr(owner, leaf).requires_grad
        setattr(owner, leaf, nn.Parameter(weight.detach().clone(), requires_grad=learns))
    return network


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
