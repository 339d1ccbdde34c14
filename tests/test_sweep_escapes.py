"""Names and messages of a sweep are escaped for what reads them, and passwords are shown nowhere."""

import os
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from made_runs import RIGHT, WRONG, complete, sweep
from rich.console import Console

from gammer_lightning import cli
from gammer_lightning.data.resumable import process_map
from gammer_lightning.errors import GammerError
from gammer_lightning.escapes import without_passwords
from gammer_lightning.sweep.live import LiveView, rows_table
from gammer_lightning.sweep.queue import child, storage
from gammer_lightning.sweep.queue.study import Row, join_study
from gammer_lightning.sweep.spec import Search, Sweep
from gammer_lightning.sweep.summary_run import wandb_environment
from gammer_lightning.sweep.table.table import write_table

FORMULA = '=HYPERLINK("http://x","y")'
HTML = "<img src=x> | a ![b](http://c/d.png)"
ESCAPE = "trouble \x1b[31mred\x07"
SECRET = "Sw0rdF1sh"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Return the folder of a table whose rows, host and error are made to be misread."""
    folder = tmp_path_factory.mktemp("table")
    rows = [complete(folder, FORMULA, RIGHT, {"model.depth": 3}), complete(folder, "_$x", WRONG, {"model.depth": 4})]
    rows.append(Row(HTML, {"model.layer": "@SUM(1)"}, "failed", host="[/x]\udcff", error=ESCAPE))
    write_table([(sweep(rows), rows)], folder / "out")
    return folder / "out"


def test_no_cell_of_the_csv_is_a_formula(table):
    read = pd.read_csv(table / "table.csv")
    assert list(read["row"]) == [f"'{FORMULA}", "_$x", HTML]
    text = (table / "table.csv").read_text()
    assert "\n=" not in text and ",=" not in text


def test_the_csv_of_a_search_has_numbers_and_no_formulas(tmp_path):
    space = {"model.lr": {"low": -3, "high": 1}, "model.layer": ["=1", "b"]}
    found = Sweep("s", "magnify_x.yaml", metric="val_loss", search=Search(2, space))
    settings = [{"model.lr": -3, "model.layer": "=1"}, {"model.lr": 1, "model.layer": "b"}]
    rows = [Row(f"trial {n}", s, "complete", tmp_path, "", {"val_loss": 0.5}) for n, s in enumerate(settings)]
    write_table([(found, rows)], tmp_path / "out")
    read = pd.read_csv(tmp_path / "out/table.csv")
    assert list(read["model.lr"]) == [-3, 1] and list(read["model.layer"]) == ["'=1", "b"]


def test_markdown_has_no_html_and_no_cell_more(table):
    text = (table / "table.md").read_text()
    assert "<img" not in text and "](" not in text and "\x1b" not in text and r"\x1b" in text
    assert len({line.replace(r"\|", "").count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_no_file_has_a_control_character(table):
    for name in ("table.md", "table.tex", "table.csv"):
        assert "\x1b" not in (table / name).read_text() and "\x07" not in (table / name).read_text()
    assert r"\textbackslash{}x1b[31mred" in (table / "table.tex").read_text()
    assert "<img src=x>" not in (table / "index.html").read_text()


def test_the_live_table_shows_hosts_and_rows_as_they_are():
    rows = [Row("[bold]a[/x]", {}, "failed", None, "[/x]", {}), Row("b\x1b[2J", {}, "running", None, "h\x1b]0;t\x07")]
    console = Console(record=True, width=200, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(rows_table(Sweep("s", "magnify_x.yaml", rows={"[bold]a[/x]": {}, "b": {}}), rows, {}))
    LiveView(console).say("c: \x1b[31m postgresql://u:" + SECRET + "@h")
    text = console.export_text()
    assert "[bold]a[/x]" in text and "│ [/x]" in text and r"b\x1b[2J" in text and r"h\x1b]0;t\x07" in text
    assert "\x1b" not in text and SECRET not in text


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:SECRET@h/db",
        "postgresql://u:a@b/SECRET:c?d#SECRET@h/db",
        "postgresql://u:SECRET SECRET@h/db",
        "postgresql://u@corp:SECRET@h",
        "postgresql://u:SECRET@/db",
        "postgresql://u:SECRET@[::1]:5432/db",
        "postgresql:/u:SECRET@h",
        "postgresql:/u:SECRET",
        "u:SECRET@h/db",
        "postgresql://u:SECRET",
        "postgresql%3A%2F%2Fu%3ASECRET%40h%2Fdb",
        "host=h user=u password=SECRET dbname=d",
        "password='SECRET SECRET' host=h",
        "PGPASSWORD=SECRET",
        "WANDB_API_KEY=SECRET",
        '{"password": "SECRET"}',
        "--password SECRET",
        "postgresql://h/db?user=u&sslpassword=SECRET",
        "https://u:SECRET@h:8080/x, mail a@b",
        "http://u:8080/SECRET@h",
        "http://h:8080, not http://u:SECRET@h:8080",
    ],
)
@pytest.mark.parametrize("verb", [["status"], ["table"], ["best"], ["status", "s", "--storge"], ["x"], ["run"]])
def test_no_password_of_a_command_line_is_shown(verb, text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = text.replace("SECRET", SECRET)
    assert SECRET not in without_passwords(given)
    ways = [[*verb, given]] + ([[*verb[:-1], f"{verb[-1]}={given}"]] if verb[-1].startswith("-") else [])
    for arguments in ways:
        assert cli.main(["sweep", *arguments]) == 2
        printed = capsys.readouterr()
        assert SECRET not in printed.out + printed.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    [
        "http://localhost:8080/x",
        "12:30:45 row: done, uf1 0.6",
        "see https://x.y/z: it",
    ],
)
def test_what_is_no_password_stays(text):
    assert without_passwords(text) == text


@pytest.mark.parametrize("url", ["postgresql%3A%2F%2Fu%3ASECRET%40h", "u:SECRET@h", "postgresql:u:SECRET@h"])
def test_an_address_never_becomes_a_journals_name(url, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(storage.STORAGE_VARIABLE, url.replace("SECRET", SECRET))
    with pytest.raises(GammerError, match="no URL and no path") as refusal:
        storage.open_storage(None, "s")
    assert SECRET not in str(refusal.value) and not list(tmp_path.iterdir())


def test_the_error_of_a_row_shows_no_password_and_no_control_character(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program = f"import sys; sys.exit('ValueError: \\x1b[31m postgresql://u:{SECRET}@h/db')"
    monkeypatch.setattr(child, "ENTRY", (child.ENTRY[0], "-c", program))
    row = child.Child("magnify", ["gammer", "magnify", "fit"], Path("row"), {})
    row.process.wait()
    assert row.error() == r"exit code 1: ValueError: \x1b[31m postgresql://u:***@h/db"


FAULTY = """
import logging, os, sys, threading
from gammer_lightning import cli
def fail(*_):
    raise ValueError(os.environ["GAMMER_SWEEP_STORAGE"])
class Finalized:
    __del__ = fail
def run_verb(name, argv):
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    Finalized()
    try:
        fail()
    except ValueError as error:
        logging.getLogger("pool").exception("in %s", error)
    fail()
cli.run_verb = run_verb
assert cli.main(["doctor"]) == 1
fail()
"""


def test_no_traceback_in_the_log_of_a_row_shows_the_password_of_the_storage(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(child, "ENTRY", (child.ENTRY[0], "-c", FAULTY))
    url = f"postgresql://u:{SECRET}@h/db"
    row = child.Child("magnify", ["gammer", "magnify", "fit"], Path("row"), {storage.STORAGE_VARIABLE: url})
    assert row.process.wait() == 1
    log = Path("row/log.txt").read_text()
    # of a thread, a finalizer, a log record, cli.py, and what nothing catches
    assert log.count("Traceback") == log.count("ValueError: postgresql://u:***@h/db") == 5, log
    assert "Exception in thread" in log and "Exception ignored in" in log and "in postgresql://u:***@h/db" in log
    assert SECRET not in log


def test_no_traceback_of_a_worker_shows_a_password(capfd):
    with pytest.raises(BrokenProcessPool), process_map(2, partial(int, f"postgresql://u:{SECRET}@h/db")) as run:
        list(run(int, "12"))
    error = capfd.readouterr().err
    assert "ValueError: invalid literal for int() with base 10: 'postgresql://u:***@h/db'" in error
    assert SECRET not in error


def test_a_study_stores_and_shows_no_password(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    two = Sweep("s", "magnify_x.yaml", rows={"a": {}, "b": {}})
    study = join_study(storage.open_storage(None, "s"), two, "")
    study.enqueue_missing()
    of_a, of_b = study.claim(), study.claim()
    study.fail(of_a.trial_id, f"lost http://u:{SECRET}@proxy", final=True)
    assert SECRET not in Path("runs/sweeps/s/journal.log").read_text()
    study.note(of_b.trial_id, error=f"lost http://u:{SECRET}@proxy")  # as older versions stored it
    assert {row.error for row in study.rows()} == {"lost http://u:***@proxy"}


def test_names_that_wandb_takes_are_not_longer_than_its_limit():
    environment = wandb_environment(Sweep("s", "magnify_x.yaml", rows={"r" * 300: {}}), "r" * 300, [0, 1, 2])
    assert environment["WANDB_NAME"] == "r" * 117 + ", seeds 0-2"
