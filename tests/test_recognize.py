"""RecognizeTask: folds in a stack equal folds alone, held-out clips never count, bad runs are refused."""

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from fake_clips import FakeClips
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from safetensors.torch import save_file
from torch.nn import functional
from torch.utils.data import DataLoader

from gammer_lightning.errors import GammerError
from gammer_lightning.evaluation.folds import class_weights, outer_clips
from gammer_lightning.runs.checkpoints import WholeCheckpoints, checkpoint_callbacks
from gammer_lightning.runs.folder import RunFolder
from gammer_lightning.tasks import label_kinds
from gammer_lightning.tasks.label_kinds import member_losses
from gammer_lightning.tasks.members import seeded, unstack
from gammer_lightning.tasks.recognize import RecognizeTask, deployed_model, refuse_trainer

SMALL = {"weight_decay": 0.0, "depth": 1, "heads": 1, "width": 4, "regions": ("nose_tip",), "lr": 1e-2}


def trainer(run, epochs=2, **settings):
    callbacks = [*checkpoint_callbacks(RunFolder(run), None), *settings.pop("callbacks", [])]
    made = pl.Trainer(
        max_epochs=epochs,
        default_root_dir=run,
        callbacks=callbacks,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    made.strategy.checkpoint_io = WholeCheckpoints()
    return made


def fit(run, data=None, epochs=2, trainer_settings=None, **settings):
    task = RecognizeTask(**{**SMALL, **settings})
    trainer(run, epochs, **(trainer_settings or {})).fit(task, datamodule=data or FakeClips())
    return task


def trained_alone(network, data, fold, epochs, lr):
    """Train one fold as a user would without stacking: only its own clips, torch's weighted cross-entropy."""
    training = np.array([subject != fold for subject in data.subjects])
    weights = torch.tensor(class_weights(training, data.labels, data.class_names, fold))
    optimizer = torch.optim.Adam(network.parameters(), lr)
    loader = data.train_dataloader()
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = lr * (1 + np.cos(np.pi * epoch / epochs)) / 2
        for batch in loader:
            own = torch.tensor(training)[batch["clip"]]
            logits = network(batch["input"][own].double())
            optimizer.zero_grad()
            functional.cross_entropy(logits, batch["label"][own], weights).backward()
            optimizer.step()


@pytest.mark.parametrize("chunk", [None, 3])
@pytest.mark.parametrize("layer", ["gat", "gcn"])
def test_a_fold_in_the_stack_equals_the_fold_trained_alone(tmp_path, chunk, layer):
    """Equal to 1e-9 in double precision, for a held-out subject and for the member that holds out nobody."""
    data = FakeClips()
    precise = {"precision": "64-true"}
    task = fit(tmp_path, data, 3, precise, seeds=[0, 7], member_chunk=chunk, layer=layer)
    for member, seed, fold in ((1, 0, "microfaces/02"), (4, 7, "microfaces/01"), (7, 7, "nobody")):
        assert task.names[member] == f"seed {seed}, fold {fold}"
        alone = seeded(seed, task.facts.network).double()
        trained_alone(alone, data, fold, epochs=3, lr=1e-2)
        stacked = dict(unstack(task.members, member).named_parameters())
        for name, weight in alone.named_parameters():
            assert torch.allclose(weight, stacked[name], atol=1e-9), name


def test_held_out_clips_do_not_change_their_member(tmp_path):
    tampered = FakeClips()
    tampered.patches[[subject == "microfaces/02" for subject in tampered.subjects]] += 3
    one, two = (fit(tmp_path / str(i), d, seeds=[0]) for i, d in enumerate((FakeClips(), tampered)))
    same = [torch.equal(one.members.classifier.weight[m], two.members.classifier.weight[m]) for m in range(4)]
    assert same == [False, True, False, False]


def test_members_losses_leave_out_and_weigh():
    logits, labels = torch.randn(2, 3, 4), torch.tensor([0, 1, 3])
    weights = torch.tensor([[1.0, 1, 0], [0, 0, 0]])
    losses = member_losses(logits, labels, weights, torch.tensor([[1.0, 2, 3, 4]] * 2))
    expected = functional.cross_entropy(logits[0, :2], labels[:2], torch.tensor([1.0, 2, 3, 4]))
    assert torch.allclose(losses, torch.stack([expected, torch.tensor(0.0)]))


def test_fit_then_test_learns_and_predicts_by_the_held_out_members(tmp_path):
    data, task = FakeClips(subjects=4), RecognizeTask(lr=1e-2, seeds=[0, 1], width=8)
    runner = trainer(tmp_path, 8)
    runner.fit(task, datamodule=data)
    assert runner.callback_metrics["train_accuracy"] > 0.9
    figures = runner.test(task, datamodule=data, verbose=False)[0]
    assert figures["test_uf1"] > 0.8
    table = pd.read_csv(tmp_path / "predictions.csv", dtype={"subject": str})
    assert len(table) == 2 * len(data.clips)
    row = table.iloc[len(data.clips) + 7]  # seed 1, a clip of subject 02
    judge = unstack(task.members, 5 + 1).eval()
    expected = judge(data.patches[7:8]).softmax(-1)[0].tolist()
    assert (row.fold, row.seed) == ("microfaces/02", 1)
    assert np.allclose([row.p_negative, row.p_positive, row.p_surprise], expected, atol=1e-4)


def test_folds_of_several_subjects_predict_by_the_member_that_held_them_out(tmp_path):
    data, task = FakeClips(subjects=4), RecognizeTask(**SMALL, seeds=[0], protocol="kfold", num_folds=2)
    runner = trainer(tmp_path, 1)
    runner.fit(task, datamodule=data)
    runner.test(task, datamodule=data, verbose=False)
    table = pd.read_csv(tmp_path / "predictions.csv", dtype={"subject": str})
    assert len(table) == len(data.clips) and table.groupby("subject").fold.nunique().max() == 1
    for index, row in table.iterrows():
        judge = unstack(task.members, int(row.fold.removeprefix("fold ")) - 1).eval()
        expected = judge(data.patches[index : index + 1]).softmax(-1)[0].tolist()
        assert np.allclose([row.p_negative, row.p_positive, row.p_surprise], expected, atol=1e-4)


def test_folds_other_than_those_trained_are_refused(tmp_path):
    data = FakeClips(subjects=4)
    fit(tmp_path, data, epochs=1, seeds=[0])  # four folds of a subject each
    other = RecognizeTask(**SMALL, seeds=[0], protocol="kfold", num_folds=4)
    with pytest.raises(GammerError, match=r"folds of model\.protocol kfold are not the checkpoint"):
        trainer(tmp_path, 1).test(other, datamodule=data, ckpt_path=RunFolder(tmp_path).last, verbose=False)


def test_the_outer_fold_is_seen_by_nothing_that_chooses_by_inner_validation(tmp_path):
    data, tampered = FakeClips(subjects=6, noise=4.0), FakeClips(subjects=6, noise=4.0)
    left_out = outer_clips(data.subjects, data.labels, 3, 2)
    tampered.patches[left_out] += 3
    inner = {"protocol": "inner", "num_folds": 3, "outer_fold": 2, "seeds": [0]}
    logged = []
    for clips in (data, tampered):
        run = tmp_path / str(len(logged))
        task = RecognizeTask(**SMALL, **inner)
        runner = trainer(run, 2)
        runner.fit(task, datamodule=clips)
        during = {name: float(value) for name, value in runner.callback_metrics.items()}
        assert {"val_uf1", "val_uar", "val_accuracy"} <= set(during) & set(task.metrics)
        after = runner.test(task, datamodule=clips, verbose=False)[0]
        assert not [name for name in after if name.startswith("test")]
        assert after["val_uf1"] == pytest.approx(during["val_uf1"])
        logged.append(during | {name: value for name, value in after.items() if name != "latency_ms"})
        table = pd.read_csv(run / "predictions.csv", dtype={"subject": str})
        seen = set(table.dataset + "/" + table.subject)
        assert seen == {s for i, s in enumerate(data.subjects) if i not in left_out}
    assert logged[0] == pytest.approx(logged[1]) and 0 < logged[0]["val_uf1"] < 1


def test_what_was_chosen_is_judged_on_the_outer_fold(tmp_path):
    data, task = FakeClips(subjects=6), RecognizeTask(**SMALL, seeds=[0], protocol="outer", num_folds=3, outer_fold=2)
    runner = trainer(tmp_path, 1)
    runner.fit(task, datamodule=data)
    assert "test_uf1" in runner.test(task, datamodule=data, verbose=False)[0]
    table = pd.read_csv(tmp_path / "predictions.csv", dtype={"subject": str})
    left_out = outer_clips(data.subjects, data.labels, 3, 2)
    assert set(table.dataset + "/" + table.subject) == {data.subjects[i] for i in left_out}
    assert not any(metric.startswith(("val", "test")) for metric in task.metrics)


def test_an_outer_fold_that_is_none_is_refused(tmp_path):
    with pytest.raises(GammerError, match=r"outer fold 4.*\n.*1 to model.num_folds \(3\)"):
        fit(tmp_path, FakeClips(subjects=6), protocol="outer", num_folds=3, outer_fold=4)


class TwoAlphas(FakeClips):
    """Clips whose patches at alpha 5, where they are evaluated, are noise; training sees alpha 8 too."""

    def train_dataloader(self):
        at_8 = [item | {"alpha": torch.tensor(8.0)} for item in self.items()]
        at_5 = [item | {"input": torch.zeros_like(item["input"])} for item in self.items()]
        return DataLoader(at_8 + at_5, 8, shuffle=True, generator=torch.Generator().manual_seed(0))


def test_the_papers_holdout_trains_on_its_test_clips_at_other_alphas_and_says_so(tmp_path):
    data, task = TwoAlphas(subjects=4), RecognizeTask(lr=1e-2, seeds=[0], width=8, protocol="paper_holdout")
    seen = []
    weigh = label_kinds.member_losses
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_kinds, "member_losses", lambda *args: (seen.append(args), weigh(*args))[1])
        runner = trainer(tmp_path, 1)
        runner.fit(task, datamodule=data)
    weights = torch.cat([weights for _, _, weights, _ in seen], 1)
    assert len(weights) == 2 and (weights[1] == 1).all()
    assert (weights[0] == 0).sum() == len(task.folds[0][1]) == 5  # once each: at alpha 5, not at 8
    runner.test(task, datamodule=data, verbose=False)
    assert len(pd.read_csv(tmp_path / "predictions.csv")) == 5
    assert "LEAKY" in (tmp_path / "results.md").read_text()


def test_a_checkpoint_is_plain_and_rebuilds_task_and_deployed_network(tmp_path):
    data = FakeClips()
    task = fit(tmp_path, data, seeds=[3])
    last = RunFolder(tmp_path).last
    torch.load(last, weights_only=True)
    rebuilt = RecognizeTask.load_from_checkpoint(last, weights_only=True)
    assert rebuilt.names == task.names
    network = deployed_model(last)
    assert torch.equal(network(data.patches), unstack(rebuilt.members, 3).eval()(data.patches))
    assert not any(key.startswith("members") for key in network.state_dict())


def test_resume_equals_one_go(tmp_path):
    class Stop(pl.Callback):
        def on_train_epoch_start(self, trainer, task):
            if trainer.current_epoch == 2:
                raise GammerError("killed")

    def data():  # whose order depends on the epoch alone, as that of MagnifiedClips
        return FakeClips(batch_size=18)

    straight = fit(tmp_path / "a", data(), 4, seeds=[0])
    with pytest.raises(GammerError, match="killed"):
        fit(tmp_path / "b", data(), 4, {"callbacks": [Stop()]}, seeds=[0])
    resumed = RecognizeTask(**SMALL, seeds=[0])
    trainer(tmp_path / "b", 4).fit(resumed, datamodule=data(), ckpt_path=RunFolder(tmp_path / "b").last)
    for one, two in zip(straight.members.parameters(), resumed.members.parameters(), strict=True):
        assert torch.allclose(one, two, atol=1e-5)


def test_other_clips_than_those_of_the_checkpoint_are_refused(tmp_path):
    fit(tmp_path, seeds=[0])
    with pytest.raises(GammerError, match=r"these clips .* are not the checkpoint"):
        trainer(tmp_path).test(
            RecognizeTask(**SMALL, seeds=[0]),
            datamodule=FakeClips(repeats=3),
            ckpt_path=RunFolder(tmp_path).last,
        )


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    torch.save({"state_dict": {"layer.weight": torch.zeros(1)}}, tmp_path / "other.ckpt")
    with pytest.raises(GammerError, match="not of a recognition run"):
        deployed_model(tmp_path / "other.ckpt")


def test_members_start_from_weights_that_fit_in_name_and_shape(tmp_path):
    pretrained = {
        "classifier.weight": torch.full((3, 6 * 4), 0.5),
        "classifier.bias": torch.zeros(7),
        "other": torch.ones(2),
    }
    save_file(pretrained, tmp_path / "front.safetensors")
    torch.save({"state_dict": pretrained}, tmp_path / "front.pth")
    for name in ("front.safetensors", "front.pth"):
        task = fit(tmp_path / f"run {name}", epochs=1, seeds=[0], lr=1e-9, weights=str(tmp_path / name))
        assert torch.allclose(task.members.classifier.weight, torch.tensor(0.5))
        assert task.members.classifier.bias.shape == (4, 3)
        (tmp_path / name).unlink()
        again = RecognizeTask(**SMALL | {"lr": 1e-9}, seeds=[0], weights=str(tmp_path / name))
        runner = trainer(tmp_path / f"run {name}")
        runner.test(again, FakeClips(), ckpt_path=RunFolder(tmp_path / f"run {name}").last, verbose=False)
    save_file({"other": torch.ones(2)}, tmp_path / "none.safetensors")
    with pytest.raises(GammerError, match=r"none of the 1 weights in [^$]*GamMer, e.g. node_embedding"):
        fit(tmp_path / "run", weights=str(tmp_path / "none.safetensors"))


def test_what_a_network_is_shown_is_refused_before_anything_starts(tmp_path):
    with pytest.raises(GammerError, match=r"data.input flow with model.network gam_mer"):
        fit(tmp_path, FakeClips(input="flow", shape=(3, 28, 28)))
    with pytest.raises(GammerError, match=r"model.network 'gam_merr'[^$]*did you mean gam_mer"):
        RecognizeTask(network="gam_merr")


def test_nan_loss_names_member_and_step_and_keeps_the_last_good_checkpoint(tmp_path):
    class Spoil(pl.Callback):
        def on_train_batch_start(self, trainer, task, batch, index):
            if trainer.global_step == 4:  # second epoch
                task.members.classifier.weight.data[2] = torch.nan

    with pytest.raises(GammerError, match=r"loss of the member with seed 0, fold microfaces/03 .* step 4"):
        fit(tmp_path, None, 3, {"callbacks": [Spoil()]}, seeds=[0])
    good = torch.load(RunFolder(tmp_path).last, weights_only=True)
    assert good["epoch"] == 0
    assert all(weight.isfinite().all() for weight in good["state_dict"].values())


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    class Spoil(pl.Callback):
        def on_train_batch_end(self, trainer, task, outputs, batch, index):
            if trainer.global_step == 6:  # last step of the second epoch
                task.members.classifier.bias.data[1] = torch.inf

    with pytest.raises(GammerError, match="weights of the member with seed 0, fold microfaces/02"):
        fit(tmp_path, None, 3, {"callbacks": [Spoil()]}, seeds=[0])
    assert torch.load(RunFolder(tmp_path).last, weights_only=True)["epoch"] == 0


@pytest.mark.parametrize(
    "callback", [EarlyStopping("test_uf1"), ModelCheckpoint(monitor="test_uar"), EarlyStopping("val_loss")]
)
def test_a_test_metric_as_monitor_is_refused(tmp_path, callback):
    with pytest.raises(GammerError, match=r"monitors `(test|val)_.*\n.*no metric of held-out clips"):
        fit(tmp_path, trainer_settings={"callbacks": [callback]})


def test_gradient_clipping_is_refused(tmp_path):
    with pytest.raises(GammerError, match="gradient_clip_val is 1"):
        fit(tmp_path, trainer_settings={"gradient_clip_val": 1.0})


def test_several_devices_are_refused():
    with pytest.raises(GammerError, match="2 devices"):
        refuse_trainer(pl.Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False))


def test_a_test_of_some_clips_is_refused(tmp_path):
    task = fit(tmp_path, seeds=[0])
    with pytest.raises(GammerError, match="only 8 of 18 clips"):
        trainer(tmp_path, limit_test_batches=1).test(task, datamodule=FakeClips())
    assert not (tmp_path / "results.json").exists()


def test_one_subject_is_refused(tmp_path):
    with pytest.raises(GammerError, match="two subjects"):
        fit(tmp_path, FakeClips(subjects=1))


def test_a_class_that_only_one_subject_shows_is_refused_before_anything_is_magnified(tmp_path):
    data = FakeClips()
    data.prepare_data = lambda: pytest.fail("magnified first")
    data.labels = [2 if clip.subject == "01" else 0 if index % 2 else 1 for index, clip in enumerate(data.clips)]
    with pytest.raises(GammerError, match="fold microfaces/01: no training clip of class surprise"):
        fit(tmp_path, data)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": []}, "model.seeds"),
        ({"seeds": [1, 1]}, "model.seeds"),
        ({"lr": 0.0}, "model.lr"),
        ({"weight_decay": -1.0}, "model.weight_decay"),
        ({"member_chunk": 0}, "model.member_chunk"),
        ({"regions": ["chin"]}, "chin"),
        ({"layer": "gin"}, "gin"),
    ],
)
def test_bad_settings_are_refused_before_any_data_is_read(settings, message):
    with pytest.raises(GammerError, match=message):
        RecognizeTask(**settings)
