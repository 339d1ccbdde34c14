"""Reader of SAMM's folder layout and FACS workbook.

Source: Davison et al., SAMM, IEEE Transactions on Affective Computing 2016.
"""

from functools import partial
from pathlib import Path

from gammer_lightning.data.clips.action_units import published_class
from gammer_lightning.data.clips.clip import Clip, collect, list_frames, wrong_root
from gammer_lightning.data.clips.workbooks import (
    annotated_apex,
    find_workbook,
    frame_number,
    names_of,
    read_workbook,
    workbooks,
)
from gammer_lightning.errors import GammerError

WORKBOOK = "SAMM_Micro_FACS_Codes*.xlsx"
OFFSETS = {"013_1_9": "5739"}
"""Offsets that are wrong in some copies of the table."""
MEB_APEXES = {"028_4_1": 1105, "032_3_1": 4945, "032_3_2": 5130}
"""Apexes that some copies of the table lack or have outside onset .. offset, as the toolbox MEB estimates them.

Source: Varanka et al., MEB, https://github.com/tvaranka/meb; by optical flow, so these are no annotations.
"""
MEB = "estimate of MEB"


def read_samm(root: str | Path, problems: list[GammerError] | None = None) -> list[Clip]:
    """Read every annotated clip, in the order of the workbook; objective classes are those of its column.

    A known slip of an offset is corrected, and three apexes are estimates where the table has none (`MEB_APEXES`).

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
    beside = root if workbooks(root, WORKBOOK) else frames
    records = read_workbook(find_workbook(beside, WORKBOOK))
    return collect([partial(_read_clip, frames, record) for record in records], problems)


def _read_clip(folder: Path, record: dict[str, str]) -> Clip:
    subject, name = names_of(record, 3)
    notes: tuple[str, ...] = ()
    corrected = OFFSETS.get(name, record["offset"])
    if corrected != record["offset"]:
        notes += (f"{name}: offset {record['offset']} of the table is a known slip, {corrected} is right",)
        record = record | {"offset": corrected}
    onset = frame_number(record, "onset", name)
    offset = frame_number(record, "offset", name)
    if name in MEB_APEXES and not _is_between(onset, record["apex"], offset):
        apex: int | None = MEB_APEXES[name]
        origin = MEB
        notes += (f"{name}: the table has apex {record['apex'] or '(empty)'}, {apex} is an {MEB} by optical flow",)
    else:
        apex, apex_notes = annotated_apex(record, onset, name)
        notes += apex_notes
        origin = "none" if apex is None else "annotated"
    frames, numbers = list_frames(folder / subject / name)
    clip = Clip(
        dataset="samm",
        subject=subject,
        name=name,
        frames=frames,
        numbers=numbers,
        onset=onset,
        apex=apex,
        offset=offset,
        action_units=record["units"],
        emotion=record["emotion"].lower(),
        apex_origin=origin,
        notes=notes,
        objective_class=published_class(record["objective"], name),
    )
    return clip.check()


def _is_between(onset: int, apex: str, offset: int) -> bool:
    """Whether the table's apex is a frame after the onset, up to the offset."""
    return apex.isdecimal() and len(apex) < 10 and onset < int(apex) <= offset
