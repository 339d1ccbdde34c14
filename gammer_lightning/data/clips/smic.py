"""Reader of SMIC-HS's folder layout, raw or cropped; it has no workbook, and no apex is annotated.

Source: Li et al., SMIC, IEEE FG 2013.
"""

import re
from functools import partial
from pathlib import Path

from gammer_lightning.data.clips.clip import Clip, collect, list_frames, wrong_root
from gammer_lightning.errors import GammerError
from gammer_lightning.files import is_junk

FRAME_FOLDERS = ("SMIC_all_cropped/HS", "SMIC_all_raw/HS", "HS")
"""Where the frames are, best first."""
EMOTIONS = ("negative", "positive", "surprise")


def read_smic(root: str | Path, problems: list[GammerError] | None = None) -> list[Clip]:
    """Read every clip of ``HS/<subject>/micro/<emotion>/<clip>/``, subjects and clips in order.

    The first frame is the onset and the last one the offset. ``non_micro`` is left out.

    Args:
        root: Folder with ``HS/``, or with ``SMIC_all_cropped/HS/`` (preferred) or ``SMIC_all_raw/HS/``.
        problems: Takes the errors of clips that cannot be used; None raises the first.

    Raises:
        GammerError: If the folder holds no such clips, or a clip has fewer than two frames.
    """
    root = Path(root)
    frames = next((root / name for name in FRAME_FOLDERS if (root / name).is_dir()), root)
    folders: list[Path] = []
    for emotion in EMOTIONS:
        for path in frames.glob(f"[sS]*/micro/{emotion}/*/"):
            if not is_junk(path.name):
                folders.append(path)
    if not folders:
        raise wrong_root(root, f"{', '.join(FRAME_FOLDERS)} with s1/micro/negative/...", "point data.roots at SMIC")
    order = sorted(folders, key=lambda path: (_digits(path.parts[-4]), path.parts[-2:]))
    tight = frames.resolve().parent.name.endswith("cropped")
    return collect([partial(_read_clip, folder, tight) for folder in order], problems)


def _digits(subject: str) -> str:
    """Return the subject's number as text, which folders write with or without a zero: ``s1``, ``s01``."""
    return re.sub(r"\D", "", subject).zfill(2)


def _read_clip(folder: Path, tight: bool) -> Clip:
    frames, numbers = list_frames(folder)
    clip = Clip(
        dataset="smic",
        subject=_digits(folder.parts[-4]),
        name=folder.name,
        frames=frames,
        numbers=numbers,
        onset=numbers[0],
        apex=None,
        offset=numbers[-1],
        action_units="",
        emotion=folder.parts[-2],
        apex_origin="none",
        cropped=tight,
    )
    return clip.check()
