"""The data sets: their readers, where they are looked for, how to get them, and what they should hold."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from gammer_lightning.data.clips.casme2 import read_casme2
from gammer_lightning.data.clips.clip import MICROFACES, Clip, is_microfaces
from gammer_lightning.data.clips.samm import read_samm
from gammer_lightning.data.clips.smic import read_smic
from gammer_lightning.errors import GammerError
from gammer_lightning.files import depth_note


@dataclass(frozen=True)
class Dataset:
    """A data set of annotated clips.

    Attributes:
        title: Its name in the literature.
        read: Reads its clips: ``(root, problems=None)``.
        get: How to get it: whom to ask, which files.
        emotions: Expected number of clips of each annotated emotion; empty where any number is right.
        subjects: Expected number of subjects.
        class_sets: Expected clips and subjects of each class set.
    """

    title: str
    read: Callable[..., list[Clip]]
    get: str
    emotions: Mapping[str, int] = field(default_factory=dict)
    subjects: int = 0
    class_sets: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def _read_microfaces(root: str | Path, problems: list[GammerError] | None = None) -> list[Clip]:
    return read_casme2(root, MICROFACES, problems)


DATASETS = {
    "casme2": Dataset(
        "CASME II",
        read_casme2,
        "sign the licence agreement of the Institute of Psychology, Chinese Academy of Sciences (Xiaolan Fu), for "
        "CASME2-coding-20140508.xlsx, CASME2-ObjectiveClasses.xlsx and Cropped/ (or CASME2_RAW_selected/)",
        dict(others=99, disgust=63, happiness=32, repression=27, surprise=25, sadness=7, fear=2),
        26,
        {"five": (246, 26), "three": (145, 24), "objective": (185, 26)},
    ),
    "samm": Dataset(
        "SAMM",
        read_samm,
        "sign the licence agreement of Manchester Metropolitan University (Moi Hoon Yap), for "
        "SAMM_Micro_FACS_Codes_v2.xlsx and the folders 006, 007, ...",
        dict(anger=57, happiness=26, others=26, surprise=15, contempt=12, disgust=9, fear=8, sadness=6),
        29,
        {"five": (136, 27), "three": (133, 28), "objective": (68, 21)},
    ),
    "smic": Dataset(
        "SMIC-HS",
        read_smic,
        "sign the licence agreement of the University of Oulu (Xiaobai Li, Guoying Zhao), for "
        "SMIC_all_cropped/HS (or SMIC_all_raw/HS)",
        dict(negative=70, positive=51, surprise=43),
        16,
        {"three": (164, 16)},
    ),
    "microfaces": Dataset("microfaces", _read_microfaces, "generate it: gammer data synthesize --out data/microfaces"),
}


def variable(name: str) -> str:
    """Return the environment variable that names a data set's folder, e.g. ``GAMMER_CASME2``."""
    return f"GAMMER_{name.upper().replace('-', '_')}"


def dataset_of(name: str) -> Dataset:
    """Return a data set by its name.

    A name such as ``microfaces-b`` is a further cast of microfaces, whose clips carry that name. Several casts can be
    in one run, each as a data set of its own.

    Raises:
        GammerError: If no data set has that name.
    """
    if name in DATASETS:
        return DATASETS[name]
    if is_microfaces(name):
        return replace(DATASETS[MICROFACES], title=name, read=partial(read_casme2, dataset=name))
    raise GammerError(
        f"unknown data set {name!r}",
        f"it is one of {', '.join(DATASETS)}, or {MICROFACES}-NAME for a further cast",
        "gammer data list",
    )


def find_root(name: str, root: str | Path | None = None) -> Path:
    """Return a data set's folder: the one given, else that of its environment variable.

    Raises:
        GammerError: If the data set is unknown, or neither names a folder.
    """
    dataset = dataset_of(name)
    folder = root or os.environ.get(variable(name))
    if not folder:
        raise GammerError(
            f"no folder is given for {dataset.title}",
            f"data.roots.{name}, or the environment variable {variable(name)}, names it",
            f"{variable(name)}=/path/to/it gammer ...; to get the data: gammer data list",
        )
    return Path(folder)


def read_datasets(roots: Mapping[str, str | Path | None]) -> list[Clip]:
    """Read the clips of one or several data sets.

    Args:
        roots: Folder of each data set by name; None looks at its environment variable.

    Raises:
        GammerError: If one cannot be found or read, or none is named.
    """
    if not roots:
        raise GammerError("data.roots names no data set", f"one or more of {', '.join(DATASETS)}", "gammer data list")
    folders = {name: find_root(name, root) for name, root in roots.items()}
    clips: list[Clip] = []
    for name, folder in folders.items():
        clips += dataset_of(name).read(folder)
    for index, clip in enumerate(clips):
        note = frame_note(clip)
        if note:
            clips[index] = replace(clip, notes=(*clip.notes, note))
    return clips


def frame_note(clip: Clip) -> str:
    """Return a sentence that says how a clip's frames of more than 8 bits a channel are read; empty where they have 8.

    Only the header of its first frame is read, and that only of a PNG: JPEG and BMP have 8 bits.
    """
    first = clip.frames[0]
    try:
        note = depth_note(first) if first.suffix.lower() == ".png" else ""
    except GammerError:
        return ""  # what cannot be read is refused where its pixels are
    return note and f"clip {clip.key}: {note}"
