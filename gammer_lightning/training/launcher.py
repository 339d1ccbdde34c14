"""Environment variables by which torchrun, SLURM and others say which of a run's processes this is."""

import os

from gammer_lightning.errors import GammerError

NUMBERS = (
    "RANK",
    "LOCAL_RANK",
    "GROUP_RANK",
    "NODE_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_PORT",
    "SLURM_NTASKS",
    "SLURM_NTASKS_PER_NODE",
    "SLURM_NNODES",
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "SLURM_NODEID",
    "JSM_NAMESPACE_RANK",
    "JSM_NAMESPACE_LOCAL_RANK",
    "JSM_NAMESPACE_SIZE",
)
"""Variables that Lightning reads as whole numbers, some of them while it is imported."""


def check_launcher() -> None:
    """Refuse a variable of a launcher that is no whole number.

    Raises:
        GammerError: Naming it.
    """
    for name in NUMBERS:
        value = os.environ.get(name, "0")
        if not (value.isascii() and value.isdecimal() and len(value) < 10):
            raise GammerError(
                f"the environment variable {name} is {value[:40]!r}",
                "Lightning reads it as a whole number: a launcher (torchrun, SLURM) sets it",
                f"unset {name}",
            )
