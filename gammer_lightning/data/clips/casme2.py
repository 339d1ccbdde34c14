"""Reader of CASME II's folder layout and coding workbook, which `microfaces` shares.

Source: Yan et al., CASME II, PLoS ONE 2014.
"""

from functools import partial
from pathlib import Path

from gammer_lightning.data.clips.action_units import published_class
from gammer_lightning.data.clips.clip import Clip, collect, list_frames, wrong_root
from gammer_lightning.data.clips.workbooks import (
    COLUMNS,
    OBJECTIVE,
    annotated_apex,
    find_workbook,
    frame_number,
    names_of,
    read_workbook,
    workbooks,
)
from gammer_lightning.errors import GammerError

FRAME_FOLDERS = ("Cropped", "CASME2_RAW_selected")
"""Where the frames are, best first."""
WORKBOOK = "CASME2-coding*.xlsx"
OBJECTIVE_WORKBOOK = "CASME2-ObjectiveClasses*.xlsx"
"""Columns Subject, Filename, Objective Class (1 to 7); beside the coding workbook in many copies."""


def read_casme2(root: str | Path, dataset: str = "casme2", problems: list[GammerError] | None = None) -> list[Clip]:
    """Read every annotated clip, in the order of the workbook.

    An apex of ``/``, and one that is the onset itself, counts as not annotated. Objective classes are those of
    ``CASME2-ObjectiveClasses.xlsx``, where it is there, or of a column of the coding workbook.

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
    records = _with_objective_classes(read_workbook(find_workbook(root, WORKBOOK)), root)
    return collect([partial(_read_clip, frames, dataset, record) for record in records], problems)


def _with_objective_classes(records: list[dict[str, str]], root: Path) -> list[dict[str, str]]:
    if not workbooks(root, OBJECTIVE_WORKBOOK):
        return records
    columns = {field: COLUMNS[field] for field in ("subject", "name")} | OBJECTIVE
    table = read_workbook(find_workbook(root, OBJECTIVE_WORKBOOK), columns, {})
    classes = {(row["subject"].zfill(2), row["name"]): row["objective"] for row in table}
    with_classes = []
    for record in records:
        clip = record["subject"].zfill(2), record["name"]
        with_classes.append(record | {"objective": classes.get(clip, record["objective"])})
    return with_classes


def _read_clip(folder: Path, dataset: str, record: dict[str, str]) -> Clip:
    subject, name = names_of(record, 2)
    folder_name = f"sub{subject}/{name}"
    onset = frame_number(record, "onset", folder_name)
    offset = frame_number(record, "offset", folder_name)
    apex, notes = annotated_apex(record, onset, folder_name)
    origin = "none" if apex is None else "annotated"
    frames, numbers = list_frames(folder / f"sub{subject}" / name)
    clip = Clip(
        dataset=dataset,
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
        cropped=folder.name == FRAME_FOLDERS[0],
        notes=notes,
        objective_class=published_class(record["objective"], folder_name),
    )
    return clip.check()
