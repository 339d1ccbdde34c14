"""Settings of all tests: few threads, no account, long files first."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["WANDB_MODE"] = "offline"
os.environ["MPLBACKEND"] = "Agg"

import pytest


@pytest.fixture(autouse=True)
def few_threads_and_no_account(monkeypatch, tmp_path_factory):
    """Keep workers from crowding the cores, and a developer's W&B key out of the tests."""
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path_factory.getbasetemp() / "no-netrc"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path_factory.getbasetemp() / "wandb"))


LONG = (
    "test_signals",
    "test_sweep_run",
    "test_sweep_postgres",
    "test_export",
    "test_wandb",
    "test_notebooks",
    "test_tensorrt",
    "test_bench_export",
    "test_wheel",
    "test_sweep_kill",
    "test_large_networks",
    "test_export_wandb",
    "test_magnify",
)


def pytest_collection_modifyitems(items):
    """Let files that take long start first, or one worker would do the last of them while the other waits."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))
