"""Predictions of held-out clips: each by its fold's member, in any batches and chunks; facts of members on disk."""

import dataclasses

import pytest
import torch
from fake_clips import FakeClips

from gammer_lightning.errors import GammerError
from gammer_lightning.evaluation.folds import NOBODY, loso_folds
from gammer_lightning.tasks.costs import deployment_costs
from gammer_lightning.tasks.held_out import HeldOutPredictions
from gammer_lightning.tasks.members import MemberFacts, seeded, stack

SETTINGS = {"num_classes": 3, "regions": ["nose_tip"], "depth": 1, "heads": 1, "width": 4, "patch_size": 8}


@pytest.mark.parametrize("chunk", [1, 3, 8])
def test_each_clip_is_predicted_by_the_member_of_its_fold(chunk):
    data, seeds = FakeClips(subjects=3, repeats=1), (0, 7)
    folds = loso_folds(data.subjects)[:2]  # the third subject is held out by no fold
    names = [name for name, _ in folds] + [NOBODY]
    networks = [seeded(number, SETTINGS).eval() for number in range(6)]
    held_out = HeldOutPredictions(data, folds, names, seeds)
    chunks = [slice(start, start + chunk) for start in range(0, 6, chunk)]
    for clips in torch.tensor([8, 0, 4, 3]), torch.tensor([7, 6, 5, 2, 1]):
        assert not held_out.is_complete
        with torch.no_grad():
            held_out.predict(stack(networks).eval(), {"input": data.patches[clips], "clip": clips}, chunks)
    assert held_out.is_complete and held_out.num_predicted == 9
    for seed in range(2):
        for clip, subject in enumerate(data.subjects):
            member = 3 * seed + (names.index(subject) if subject in names else 2)
            expected = networks[member](data.patches[clip : clip + 1]).softmax(-1)[0]
            assert torch.allclose(held_out.probabilities[seed, clip], expected, atol=1e-5)
    predictions = held_out.predictions("loso")
    assert predictions.probabilities.shape == (2, 6, 3) and set(predictions.folds) == set(names) - {NOBODY}


def test_facts_of_members_are_written_and_read_as_plain_values():
    facts = MemberFacts(SETTINGS, ["a", NOBODY], ["x", "y", "z"], "clips", "split")
    assert MemberFacts.from_checkpoint({"recognition": facts.as_dict()}, "here") == facts and facts.deployed == 1
    assert list(facts.as_dict()) == ["network", "folds", "class_names", "clip_hash", "split", "name"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        facts.name = "other"
    with pytest.raises(GammerError, match="here is not of a recognition run"):
        MemberFacts.from_checkpoint({}, "here")


def test_costs_are_those_of_one_clip():
    class Precision:
        forward_context = torch.no_grad

        def convert_input(self, clip):
            assert clip.shape == (1, 68, 3, 8, 8)
            return clip

    network = seeded(0, SETTINGS).eval()
    costs = deployment_costs(network, FakeClips(), torch.device("cpu"), Precision())
    assert costs["latency_ms"] > 0 and costs["input_ms"] == 1
    assert costs["parameters"] == sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
