"""Data sets of long videos, told by what their folder holds."""

from pathlib import Path

from gammer_lightning.data.clips import casme_squared, samm_long
from gammer_lightning.data.clips.long_video import LongVideo
from gammer_lightning.errors import GammerError
from gammer_lightning.files import read_cached_json

GENERATED = "microfaces-long"
"""Name of generated long videos, and of their manifest, ``microfaces-long.json``."""


def read_long_videos(root: str | Path, problems: list[GammerError] | None = None) -> list[LongVideo]:
    """Read a data set of long videos: CAS(ME)2, SAMM Long Videos, or generated ones.

    Args:
        root: Its folder.
        problems: Takes the errors of rows and videos that cannot be used; None raises the first.

    Raises:
        GammerError: If it is laid out like none of them, or as its reader says.
    """
    root = Path(root)
    if any((root / name).is_dir() for name in samm_long.FRAMES) or list(root.glob(samm_long.WORKBOOK)):
        return samm_long.read_samm_long(root, problems=problems)
    fps = read_cached_json(root / f"{GENERATED}.json").get("fps")
    if isinstance(fps, int) and fps > 0:
        return casme_squared.read_casme_squared(root, GENERATED, fps, problems)
    return casme_squared.read_casme_squared(root, problems=problems)
