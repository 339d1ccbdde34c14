"""A sweep in W&B: its rows are one group of runs, its table is a run of that group."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from filelock import FileLock

from gammer_lightning.errors import GammerError
from gammer_lightning.machine import git_state
from gammer_lightning.runs.folder import WANDB_PROJECT, stage_in
from gammer_lightning.runs.wandb_uploads import SERVICE_VARIABLE, private_settings
from gammer_lightning.sweep.queue.study import Row
from gammer_lightning.sweep.spec import Sweep

if TYPE_CHECKING:
    from wandb import Table

NAME_LENGTH = 128
"""W&B's server refuses a run with a longer name."""
TAG_LENGTH = 64
"""W&B refuses a run with a longer tag."""


def wandb_environment(sweep: Sweep, row: str, seeds: Sequence[int]) -> dict[str, str]:
    """Return the variables under which W&B files a row's run: group, job type, name and tags.

    Args:
        sweep: The sweep; its study is the group.
        row: Name of the row.
        seeds: Seeds that the run trains; empty where the base says them.
    """
    text = _seeds_text(seeds)[:NAME_LENGTH]
    name = row[: NAME_LENGTH - len(text)] + text
    return {
        "WANDB_RUN_GROUP": sweep.study,
        "WANDB_JOB_TYPE": "search" if sweep.search else "row",
        "WANDB_NAME": name,
        "WANDB_TAGS": ",".join(tags(sweep)),
    }


def _seeds_text(seeds: Sequence[int]) -> str:
    if not seeds:
        return ""
    if len(seeds) == 1:
        return f", seed {seeds[0]}"
    ordered = sorted(seeds)
    first = ordered[0]
    last = ordered[-1]
    if len(ordered) > 2 and ordered == list(range(first, last + 1)):
        return f", seeds {first}-{last}"
    return f", seeds {', '.join(map(str, ordered))}"


def tags(sweep: Sweep) -> list[str]:
    """Return task, base experiment and study as tags that W&B takes: a comma would end one."""
    words = (sweep.task, Path(sweep.base).stem, sweep.study)
    return list(dict.fromkeys(word.replace(",", " ")[:TAG_LENGTH] for word in words))


def log_summary(sweep: Sweep, rows: Sequence[Row], table: Path, mode: str) -> None:
    """Log a sweep's table, figures and page as a W&B run of their own; a repetition updates the same run.

    Args:
        sweep: The sweep.
        rows: Its rows; their states are counted.
        table: Folder of table.csv, index.html and figures/; the run lies beside it, in ``table.parent / "wandb"``.
        mode: ``online``, ``offline`` or ``disabled``.

    Raises:
        GammerError: If table.csv or index.html is missing, W&B cannot be reached, or it cannot write its files.
    """
    if mode == "disabled":
        return
    for name in ("table.csv", "index.html"):
        if not (table / name).is_file():
            raise GammerError(f"no {table / name}", "the summary shows the sweep's table", "gammer sweep table first")
    import wandb

    states = [row.state for row in rows]
    counts = {state: states.count(state) for state in sorted(set(states))}
    with FileLock(table.parent / "wandb.lock"), _staged(table.parent):  # supervisors of one folder end together
        if mode == "offline":
            shutil.rmtree(table.parent / "wandb", ignore_errors=True)  # an older summary, which this one replaces
        try:
            with wandb.init(**_summary_run(sweep, table.parent, mode)) as run:
                run.log(_contents(table))
                run.summary.update({"rows": len(rows), **counts})
        except (wandb.errors.Error, OSError) as error:
            raise GammerError(
                f"the summary of {sweep.study} did not reach W&B: {error}",
                "online it needs a key (`wandb login`) and the network, and always room on the disk",
                f"mend that, then gammer sweep resume {sweep.study}: it runs no row again and writes the summary anew",
            ) from error


def _summary_run(sweep: Sweep, folder: Path, mode: str) -> dict[str, Any]:
    return {
        "project": WANDB_PROJECT,
        "dir": folder.resolve(),
        "id": summary_id(sweep.study),
        "resume": "allow",
        "group": sweep.study,
        "job_type": "summary",
        "name": f"{sweep.study} summary",
        "tags": tags(sweep),
        "config": {"sweep": sweep.plain(), "git": git_state(), "task": sweep.task},
        "mode": mode,
        "reinit": "create_new",
        "settings": private_settings(),
    }


def summary_id(study: str) -> str:
    """Return the W&B id of a study's summary, always the same one."""
    return f"summary-{sha256(study.encode()).hexdigest()[:12]}"


@contextmanager
def _staged(folder: Path) -> Iterator[None]:
    """Stage the summary in its folder, and give back the variables that the sweep's children would inherit."""
    old_values = {name: os.environ.get(name) for name in ("WANDB_DATA_DIR", SERVICE_VARIABLE)}
    stage_in(folder.resolve())
    try:
        yield
    finally:
        for name, value in old_values.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _contents(table: Path) -> dict[str, Any]:
    from wandb import Html, Image

    contents: dict[str, Any] = {
        "table": _read_table(table / "table.csv"),
        "page": Html(table / "index.html", inject=False),
    }
    for path in sorted((table / "figures").glob("*.png")):
        contents[path.stem] = Image(str(path))
    return contents


def _read_table(path: Path) -> "Table":
    from wandb import Table

    frame = pd.read_csv(path)
    rows = frame.astype(object).where(frame.notna(), None)  # W&B takes None in a column of text, and no NaN
    return Table(columns=list(frame), data=rows.to_numpy().tolist())
