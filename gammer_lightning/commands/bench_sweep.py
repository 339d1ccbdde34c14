"""What `gammer bench sweep` measures: the supervisor alone, with rows that only sleep, and a study of 10,000 rows."""

import itertools
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

from gammer_lightning.processes import python_command
from gammer_lightning.sweep.queue import child
from gammer_lightning.sweep.queue.slots import make_slots
from gammer_lightning.sweep.queue.storage import open_storage
from gammer_lightning.sweep.queue.study import Study, join_study, open_study
from gammer_lightning.sweep.queue.supervisor import Supervisor
from gammer_lightning.sweep.spec import Sweep

SLEEP, ROWS, SLOTS, MANY = 1.0, 16, 4, 10_000
ROW = f"""
import json, sys, time
from pathlib import Path
started = time.time()
run = Path(sys.argv[sys.argv.index("--out") + 1])
time.sleep({SLEEP})
(run / "env.json").write_text(json.dumps({{"finished": True}}))
(run / "metrics.csv").write_text(f"started,ended\\n{{started}},{{time.time()}}\\n")
"""


def measure() -> list[dict]:
    """Measure in an empty folder.

    Returns:
        Rows as those of `gammer_lightning.commands.bench`: from a row's end to the next one's start (ms) beside a
        fit's own imports, throughput of several slots relative to one, and seconds to plan, list and reopen many rows.
    """
    with tempfile.TemporaryDirectory() as folder, chdir(folder), _sleeping_rows():
        one_seconds, gaps = _run(1)
        several_seconds, _ = _run(SLOTS)
        many = _many_rows()
    median_gap = sorted(gaps)[len(gaps) // 2]
    return [
        {"name": "from a row's end to the next one's start", "ms": 1000 * median_gap},
        {"name": "imports of a fit, which come on top", "ms": 1000 * _import_seconds()},
        {"name": f"throughput of {SLOTS} slots / one, sleeping rows", "ratio": one_seconds / several_seconds * SLOTS},
        *many,
    ]


@contextmanager
def _sleeping_rows() -> Iterator[None]:
    entry, child.ENTRY = child.ENTRY, tuple(python_command("-c", ROW))
    try:
        yield
    finally:
        child.ENTRY = entry


def _run(slots: int) -> tuple[float, list[float]]:
    """Run as many rows in each slot; return the time (s) per slot's row, and the gaps (s) between rows of one slot."""
    count = ROWS // SLOTS * slots
    study = _study(f"slots{slots}", count)
    started = time.perf_counter()
    Supervisor(study, make_slots(None, slots, 1, count), None, lambda line: None).run()
    seconds = time.perf_counter() - started
    times = sorted((row.values["started"], row.values["ended"]) for row in study.rows())
    gaps = []
    for (_, end), (next_start, _) in itertools.pairwise(times):
        gaps.append(next_start - end)
    return seconds, gaps


def _study(name: str, rows: int) -> Study:
    settings = {f"row {number}": {"model.lr": number} for number in range(rows)}
    sweep = Sweep(name, "magnify_x.yaml", rows=settings)
    return join_study(open_storage(None, name), sweep, "")


def _many_rows() -> list[dict]:
    study = _study("many", MANY)
    steps = {
        f"{MANY} rows, planned": study.enqueue_missing,
        f"{MANY} rows, listed": study.rows,
        f"{MANY} rows, opened anew and listed": lambda: open_study("many").rows(),
        f"{MANY} rows, one claimed": study.claim,
    }
    return [{"name": name, "seconds": _seconds(step)} for name, step in steps.items()]


def _seconds(step) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def _import_seconds() -> float:
    code = "from gammer_lightning.training.settings import recognize; recognize()"
    command = python_command("-c", code)
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    return _seconds(lambda: subprocess.run(command, check=True, env=environment))
