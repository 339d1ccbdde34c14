"""Reader of SAMM's folder layout and FACS workbook.

Source: Davison et al., SAMM, IEEE Transactions on Affective Computing 2016.
"""

from functools import partial
from pathlib import Path

from gammer_lightning.data.clips import Clip, collect, list_frames, wrong_root
from gammer_lightning.data.workbooks import annotated_apex, find_workbook, frame_number, read_workbook
from gammer_lightning.errors import GammerError

WORKBOOK = "SAMM_Micro_FACS_Codes*.xlsx"
SLIPS = {
    ("013_1_9", "offset"): "5739",
    ("028_4_1", "apex"): "1105",
    ("032_3_1", "apex"): "4945",
    ("032_3_2", "apex"): "5130",
}
"""Frame numbers that are wrong in the published table, and the right ones."""


def read_samm(root: str | Path, problems: list[GammerError] | None = None) -> list[Clip]:
    """Read every annotated clip, in the order of the workbook; known slips of the table are corrected.

    Args:
        root: Folder with ``006/006_1_2/`` and so on, or with ``SAMM/006/...``, and the workbook in either.
        problems: Takes the errors of clips that cannot be used; None raises the first.

    Raises:
        GammerError: As in `read_casme2`.
    """
    root = Path(root)
    frames = next((path for path in (root / "SAMM", root) if any(path.glob("[0-9][0-9][0-9]/"))), None)
    if frames is None:
        raise wrong_root(root, f"folders 006, 007, ... (or SAMM/006, ...) and {WORKBOOK}", "point data.roots at SAMM")
    beside = root if any(root.glob(WORKBOOK)) else frames
    records = read_workbook(find_workbook(beside, WORKBOOK))
    return collect([partial(_read_clip, frames, record) for record in records], problems)


def _read_clip(folder: Path, record: dict[str, str]) -> Clip:
    subject, name = record["subject"].zfill(3), record["name"]
    notes = []
    for (clip, field), right in SLIPS.items():
        if name == clip and record[field] != right:
            notes.append(f"{name}: {field} {record[field]} of the table is a known slip, {right} is right")
            record = record | {field: right}
    onset, offset = (frame_number(record, field, name) for field in ("onset", "offset"))
    apex, unusable = annotated_apex(record, onset, name)
    origin = "none" if apex is None else "annotated"
    frames, numbers = list_frames(folder / subject / name)
    units, emotion = record["units"], record["emotion"].lower()
    notes = (*notes, *unusable)
    clip = Clip("samm", subject, name, frames, numbers, onset, apex, offset, units, emotion, origin, notes=notes)
    return clip.check()
