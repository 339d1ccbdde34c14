"""Reader of CASME II's folder layout and coding workbook, which `microfaces` shares.

Source: Yan et al., CASME II, PLoS ONE 2014.
"""

from functools import partial
from pathlib import Path

from gammer_lightning.data.clips import Clip, collect, list_frames, wrong_root
from gammer_lightning.data.workbooks import annotated_apex, find_workbook, frame_number, read_workbook
from gammer_lightning.errors import GammerError

FRAME_FOLDERS = ("Cropped", "CASME2_RAW_selected")
"""Where the frames are, best first."""
WORKBOOK = "CASME2-coding*.xlsx"


def read_casme2(root: str | Path, dataset: str = "casme2", problems: list[GammerError] | None = None) -> list[Clip]:
    """Read every annotated clip, in the order of the workbook.

    An apex of ``/``, and one that is the onset itself, counts as not annotated.

    Args:
        root: Folder with ``Cropped/`` (preferred) or ``CASME2_RAW_selected/`` and the coding workbook.
        dataset: Name the clips carry, e.g. ``"microfaces"``.
        problems: Takes the errors of clips that cannot be used; None raises the first.

    Raises:
        GammerError: If the folder, the workbook or a column is missing; and about a clip, if its folder or a key
            frame is missing, a frame number is not a whole number, or its apex lies outside onset .. offset.
    """
    root = Path(root)
    frames = next((root / name for name in FRAME_FOLDERS if (root / name).is_dir()), None)
    if frames is None:
        raise wrong_root(
            root,
            f"{' or '.join(FRAME_FOLDERS)} and {WORKBOOK}",
            f"point data.roots at CASME II, or make the embedded set: gammer data synthesize --out {root}",
        )
    records = read_workbook(find_workbook(root, WORKBOOK))
    return collect([partial(_read_clip, frames, dataset, record) for record in records], problems)


def _read_clip(folder: Path, dataset: str, record: dict[str, str]) -> Clip:
    subject, name = record["subject"].removeprefix("sub").zfill(2), record["name"]
    where = f"sub{subject}/{name}"
    onset, offset = (frame_number(record, field, where) for field in ("onset", "offset"))
    apex, notes = annotated_apex(record, onset, where)
    origin = "none" if apex is None else "annotated"
    frames, numbers = list_frames(folder / f"sub{subject}" / name)
    units, emotion = record["units"], record["emotion"].lower()
    tight = folder.name == FRAME_FOLDERS[0]
    clip = Clip(dataset, subject, name, frames, numbers, onset, apex, offset, units, emotion, origin, tight, notes)
    return clip.check()
