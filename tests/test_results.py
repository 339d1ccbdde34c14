"""The files of a recognition run, written whole, and the same in an offline W&B run."""

import hashlib
import json
import multiprocessing
import struct
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import wandb
from fake_clips import FakeClips
from made_runs import LABELS
from made_runs import predictions as made_predictions
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, WandbLogger
from wandb.proto import wandb_internal_pb2

from gammer_lightning.errors import GammerError
from gammer_lightning.evaluation.predictions import Predictions
from gammer_lightning.evaluation.results import (
    MICROFACES_NOTE,
    draw_confusion,
    log_results,
    write_figures,
    write_results,
)
from gammer_lightning.evaluation.run_results import RunResults
from gammer_lightning.faces.graph import PAPER_REGIONS


@pytest.fixture
def predictions():
    data = FakeClips()
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), (2, len(data.clips)))
    return Predictions(
        data.clips, data.labels, data.class_names, [0, 5], probabilities, data.subjects, "leave one subject out"
    )


def test_summary_holds_each_seed_and_mean_and_spread(tmp_path, predictions):
    results = write_results(tmp_path, predictions)
    uf1 = [values["uf1"] for values in results.seeds.values()]
    assert results.mean["uf1"] == pytest.approx(np.mean(uf1))
    assert results.std["uf1"] == pytest.approx(np.std(uf1, ddof=1))
    assert results.seeds["5"]["accuracy"] == np.mean(predictions.predicted[1] == predictions.labels)
    assert np.sum(results.confusion["0"]) == 18 and results.subjects == 3
    assert [values["support"] for values in results.classes.values()] == [6, 6, 6]


def read(path):
    return RunResults.from_file(path, "next")


def test_results_json_keeps_its_names_and_order_and_is_read_back(tmp_path, predictions):
    results = write_results(tmp_path, predictions)
    path = tmp_path / "results.json"
    names = "protocol datasets clips subjects folds apexes clips_sha256 mean std seeds classes confusion"
    assert list(json.loads(path.read_text())) == names.split()
    assert read(path) == results
    assert json.dumps(read(path).as_dict(), indent=2) + "\n" == path.read_text()


def test_results_of_older_versions_are_read(tmp_path, predictions):
    write_results(tmp_path, predictions)
    path = tmp_path / "results.json"
    old = {name: value for name, value in json.loads(path.read_text()).items() if name not in ("folds", "apexes")}
    path.write_text(json.dumps(old))
    assert read(path).folds is None and read(path).apexes is None
    assert read(path).as_dict() == old


@pytest.mark.parametrize(
    "damage",
    [
        {"mean": {"uf1": 0.5}},
        {"std": {"uf1": "0", "uar": 0, "accuracy": 0}},
        {"std": {}},
        {"datasets": []},
        {"clips": 1.5},
        {"classes": {"negative": {}}},
        {"confusion": {"0": [[1]]}},
        {"seeds": None},
    ],
)
def test_damaged_results_are_refused(tmp_path, predictions, damage):
    write_results(tmp_path, predictions)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    with pytest.raises(GammerError, match=r"results\.json is damaged"):
        read(path)


def test_one_seed_has_no_spread(tmp_path, predictions):
    one = replace(predictions, seeds=[5], probabilities=predictions.probabilities[:1])
    assert write_results(tmp_path, one).std == {"uf1": None, "uar": None, "accuracy": None}
    assert "| std | - | - | - |" in (tmp_path / "results.md").read_text()


def test_text_has_the_tables_and_says_what_microfaces_are(tmp_path, predictions):
    results = write_results(tmp_path, predictions)
    text = (tmp_path / "results.md").read_text()
    assert f"| mean | {results.mean['uf1']:.3f} |" in text and "| surprise | " in text
    assert MICROFACES_NOTE in text and "Apexes" not in text


def test_apexes_that_are_not_annotated_are_counted(tmp_path, predictions):
    clips = [replace(predictions.clips[0], apex_origin="middle"), *predictions.clips[1:]]
    assert write_results(tmp_path, replace(predictions, clips=clips)).apexes == {"middle": 1, "annotated": 17}
    assert "Apexes: 1 middle, 17 annotated." in (tmp_path / "results.md").read_text()


def test_predictions_table_has_a_row_for_each_clip_and_seed(tmp_path, predictions):
    write_results(tmp_path, predictions)
    table = pd.read_csv(tmp_path / "predictions.csv", dtype={"subject": str})
    names = ["negative", "positive", "surprise"]
    columns = [
        "dataset",
        "subject",
        "clip",
        "label",
        "prediction",
        *(f"p_{name}" for name in names),
        "fold",
        "seed",
    ]
    assert table.columns.tolist() == columns and len(table) == 36
    assert (table["fold"] == table["dataset"] + "/" + table["subject"]).all()
    assert (table[columns[5:8]].idxmax(axis=1) == "p_" + table["prediction"]).all()


def test_a_clip_of_the_review_table_says_what_each_seed_thought(predictions):
    table = predictions.by_clip()
    assert len(table) == 18 and table.columns[-4:].tolist() == ["seed 0", "seed 0 p", "seed 5", "seed 5 p"]
    right = (table["seed 0"] == table["label"]).astype(float) + (table["seed 5"] == table["label"])
    assert (table["correct"] == right / 2).all() and 0 < table["correct"].mean() < 1
    assert table["seed 5 p"][3] == round(predictions.probabilities[1, 3].max(), 4)


def test_clip_list_matches_its_hash(tmp_path, predictions):
    results = write_results(tmp_path, predictions)
    digest = hashlib.sha256((tmp_path / "clips.csv").read_bytes()).hexdigest()
    assert results.clips_sha256 == digest
    assert (tmp_path / "clips.csv.sha256").read_text() == f"{digest}  clips.csv\n"


def test_megc_logs_agree_with_the_confusion(tmp_path, predictions):
    write_results(tmp_path, predictions)
    lines = [line.split() for line in (tmp_path / "megc_log_seed5.txt").read_text().splitlines()]
    pairs = [(int(truth), int(guess)) for _, truth, guess in (line for line in lines if len(line) == 3)]
    assert [line for line in lines if len(line) == 2] == [["microfaces", s] for s in ("01", "02", "03")]
    counts = np.zeros((3, 3), int)
    np.add.at(counts, tuple(np.array(pairs).T), 1)
    assert np.array_equal(counts, predictions.confusions[1])


def test_writing_again_replaces_and_leaves_nothing_beside(tmp_path, predictions):
    write_results(tmp_path, predictions)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_results(tmp_path, predictions)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first and len(first) == 7


def test_figures_and_tables_reach_an_offline_wandb_run(tmp_path, predictions):
    attention = np.random.default_rng(0).random((36, 36))
    write_results(tmp_path, predictions)
    write_figures(tmp_path, predictions, FakeClips(), (PAPER_REGIONS, "optimised", attention))
    for name in ("confusion", "alphas", "graph"):
        with Image.open(tmp_path / "figures" / f"{name}.png") as figure:
            figure.load()
            assert figure.width > 600
    # W&B's service flushes the file for certain when its process ends
    child = multiprocessing.get_context("spawn").Process(target=log_offline, args=(tmp_path, predictions))
    child.start()
    child.join()
    assert child.exitcode == 0
    history = read_history(next(tmp_path.glob("wandb/offline-run-*/*.wandb")))
    assert {"confusion", "alphas", "graph", "predictions", "classes", "confusion_matrix_table"} <= set(history)
    table = next(tmp_path.glob("wandb/offline-run-*/files/media/table/predictions_*.json"))
    stored = json.loads(table.read_text())
    assert stored["columns"] == ["apex", *predictions.by_clip()] and len(stored["data"]) == 18


def log_offline(folder, predictions):
    logger = WandbLogger(name="test", save_dir=folder, offline=True)
    log_results([CSVLogger(folder), logger], folder, predictions, FakeClips())
    wandb.finish()


def read_history(path):
    """Return the last value of each key logged to an offline run."""
    values = {}
    for data in read_records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        for item in record.history.item:
            values[item.key or item.nested_key[0]] = json.loads(item.value_json)
    return values


def read_records(content):
    """Yield the records of a .wandb file: 7 bytes, then a LevelDB log (parts in 32 KiB blocks)."""
    position, record = 7, b""
    while position + 7 <= len(content):
        if (room := 32768 - position % 32768) < 7:
            position += room
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        record += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole record, or its last part
            yield record
            record = b""


def test_names_are_escaped_for_the_reader_of_each_format(tmp_path):
    made = made_predictions([LABELS], class_names=("=HYPERLINK(1)", "a|b", "<b>$x"))
    clips = [replace(made.clips[0], name="@x", emotion="+1"), *made.clips[1:]]
    write_results(tmp_path, replace(made, clips=clips))
    text = (tmp_path / "results.md").read_text()
    assert "| a\\|b |" in text and "&lt;b&gt;$x" in text and "<b>" not in text
    for name in ("predictions.csv", "clips.csv"):
        cells = [cell for line in (tmp_path / name).read_text().splitlines() for cell in line.split(",")]
        assert (
            "'=HYPERLINK(1)" in cells and "'@x" in cells and not any(cell.startswith(("=", "@", "+")) for cell in cells)
        )
    draw_confusion(np.eye(3, dtype=int), ("a$\\frac", "b", "c"), 1).savefig(tmp_path / "c.png")
