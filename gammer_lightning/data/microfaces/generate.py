"""microfaces, the embedded benchmark: synthetic micro-expression clips in CASME II's layout.

A data set is a folder:
    Cropped/subXX/EPYY_ZZ/reg_imgN.jpg   frames, as in CASME II
    CASME2-coding-microfaces.xlsx        annotation, as in CASME II
    truth/subXX/face.png, face.json      neutral face at three times the frame's size, landmarks, origin
    truth/subXX/EPYY_ZZ.npz              the motion of every frame, from which any frame can be rendered again
    microfaces.json                      what made it

Its faces are made up of two photographs unless a folder of portraits is given: numbers measured on it say
how the parts work together, not how well micro-expressions of real people are recognized.
"""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from gammer_lightning.data.clips.casme2 import read_casme2
from gammer_lightning.data.clips.clip import Clip
from gammer_lightning.data.microfaces import portraits, streams
from gammer_lightning.data.microfaces.annotation import Script, acted, coded, scripts
from gammer_lightning.data.microfaces.appearance import Traits, draw_light
from gammer_lightning.data.microfaces.camera import encoded, encoded_real, recorded, recorded_real
from gammer_lightning.data.microfaces.contact_sheet import CONTACT_SHEET
from gammer_lightning.data.microfaces.facial_actions import Performance
from gammer_lightning.data.microfaces.portraits import Photo
from gammer_lightning.data.microfaces.spec import RANGES, MicrofacesSpec
from gammer_lightning.data.microfaces.truth import Subject, load_performance, load_subject, read_face
from gammer_lightning.data.microfaces.workbook import WORKBOOK, write_workbook
from gammer_lightning.data.resumable import JPEG_END, claimed, ends_with, finish, process_map
from gammer_lightning.errors import GammerError
from gammer_lightning.files import content_hash, disk_errors, replacing

MANIFEST = "microfaces.json"
CONTENTS = ("Cropped", "truth", WORKBOOK, CONTACT_SHEET)
FORMATS = {1: 1, 2: 2.1}  # by benchmark; 2 was microfaces 2 before it was calibrated
LARGEST_ALPHA = {1: 20, 2: 10}  # by benchmark: up to which the columns of Performance.folding fold nothing


def synthesize(out: Path, spec: MicrofacesSpec, workers: int = 0) -> list[Clip]:
    """Write the benchmark; a run that was stopped goes on where it stopped, to the same bytes.

    Args:
        out: Folder to write; new, empty, or of the same spec.
        spec: What to synthesize.
        workers: Processes; 0 or 1 works in this one. The bytes do not depend on it.

    Returns:
        The clips, read back from disk.

    Raises:
        GammerError: If the folder holds something else, the portraits do not suffice, or the disk is full.
    """
    photos = photos_of(spec)
    with (
        disk_errors(out),
        claimed(out / MANIFEST, _manifest(spec, photos), CONTENTS) as is_ours,
        process_map(workers, partial(cv2.setNumThreads, 1)) as run,
    ):
        subjects = range(1, spec.subjects + 1)
        uncast = [subject for subject in subjects if not is_ours or not is_cast(out, spec, subject)]
        finish(run(partial(cast, out, spec, photos), uncast), len(uncast), "subjects")
        load_subject.cache_clear()
        every_script = scripts(spec)
        unfilmed = [script for script in every_script if not is_ours or not _is_filmed(out, spec, script)]
        finish(run(partial(_film, out, spec), unfilmed), len(unfilmed), "clips")
        write_workbook(out / WORKBOOK, (_row(out, spec, script) for script in every_script))
    return read_casme2(out, "microfaces")


def photos_of(spec: MicrofacesSpec) -> list[Photo]:
    """Return the photographs that the subjects are made of: the two embedded ones, or one for each subject."""
    if spec.portraits is None:
        return portraits.embedded_photos()
    return portraits.folder_photos(Path(spec.portraits), spec.subjects, spec.seed, spec.framing)


def _manifest(spec: MicrofacesSpec, photos: list[Photo]) -> dict:
    """Return what the bytes follow from.

    "microfaces" is the number of the benchmark, in `FORMATS`. It stands for fixed bytes: a change that gives others
    needs a new number.
    """
    settings = {name: getattr(spec, name) for name in RANGES}
    if spec.benchmark != 1:
        settings |= {"counts": spec.counts, "strengths": asdict(spec.realism)}
    return {"microfaces": FORMATS[spec.benchmark], **settings, **made_of(spec, photos)}


def made_of(spec: MicrofacesSpec, photos: list[Photo]) -> dict:
    """Return what a manifest says of the photographs that the subjects are made of."""
    pseudo = "pseudo-subjects morphed from two photographs"
    faces = pseudo if spec.portraits is None else "one photograph per subject"
    return {"faces": faces, "photographs": {photo.name: content_hash(photo.pixels) for photo in photos}}


def _truth(out: Path, subject: int) -> Path:
    return out / "truth" / f"sub{subject:02d}"


def is_cast(out: Path, spec: MicrofacesSpec, subject: int) -> bool:
    """Return whether the neutral face of a subject, counted from 1, lies in ``truth/``."""
    try:
        framing, _, _, traits = read_face(out, f"{subject:02d}")
    except GammerError:
        return False
    return framing == spec.framing and traits == _traits(spec, subject)


def _traits(spec: MicrofacesSpec, subject: int) -> Traits | None:
    """Return what a subject's truth states besides the face: nothing in microfaces 1."""
    if spec.benchmark == 1:
        return None
    light = draw_light(np.random.default_rng((spec.seed, streams.LAMP, subject)))
    return Traits(light, spec.realism.shading, spec.realism.highlight, spec.realism.hair)


def cast(out: Path, spec: MicrofacesSpec, photos: list[Photo], subject: int) -> None:
    """Make a subject's neutral face and write it to ``truth/``."""
    face, landmarks = _own_face(spec, photos[subject - 1]) if spec.portraits else _made_up(spec, photos, subject)
    names = [photos[subject - 1].name] if spec.portraits else [photo.name for photo in photos]
    record = {"photographs": names, "size": [spec.width, spec.height], "landmarks": landmarks.tolist()}
    traits = _traits(spec, subject)
    if traits is not None:
        record["traits"] = traits.record()
    with replacing(_truth(out, subject) / "face.png") as temporary:
        Image.fromarray(face).save(temporary)
    with replacing(_truth(out, subject) / "face.json") as temporary:
        temporary.write_text(json.dumps(record) + "\n")


def _own_face(spec: MicrofacesSpec, photo: Photo) -> tuple[np.ndarray, np.ndarray]:
    face = portraits.neutral_face(photo, spec.framing)
    return face, portraits.detect(portraits.visible(face, spec.framing))[0]


def _made_up(spec: MicrofacesSpec, photos: list[Photo], subject: int) -> tuple[np.ndarray, np.ndarray]:
    for attempt in range(10):
        rng = np.random.default_rng((spec.seed, streams.CAST, subject, attempt))
        face = portraits.pseudo_face(photos, spec.framing, rng)
        found = portraits.detect(portraits.visible(face, spec.framing))
        if len(found) == 1:
            return face, found[0]
    raise GammerError(
        f"no face found in frames of {spec.width}x{spec.height} px",
        "dlib must detect every subject; it needs faces of about 80 px",
        "choose larger frames: --size 280x340",
    )


def _is_filmed(out: Path, spec: MicrofacesSpec, script: Script) -> bool:
    """Return whether a clip's truth is that of its script, and its frames are whole files."""
    try:
        stored = load_performance(out, script.place)
    except GammerError:
        return False
    # The coefficients alone depend on more than the script: on what folds in the subject's face.
    expected = replace(acted(spec, script), coefficients=stored.coefficients)
    names = {_frame_name(stored.first + index) for index in range(len(stored.coefficients))}
    frames = out / "Cropped" / script.place
    return (
        vars(expected) == vars(stored)
        and frames.is_dir()
        and set(os.listdir(frames)) == names
        and all(ends_with(frames / name, JPEG_END) for name in names)
    )


def _frame_name(number: int) -> str:
    return f"reg_img{number}.jpg"


def _film(out: Path, spec: MicrofacesSpec, script: Script) -> None:
    """Act a clip, keep its truth, and write its frames as one folder that appears when it is complete."""
    subject = load_subject(out, f"{script.subject:02d}")
    performance = keep_one_to_one(acted(spec, script), subject, LARGEST_ALPHA[spec.benchmark])
    _save_performance(out / "truth" / f"{script.place}.npz", performance)
    folder = out / "Cropped" / script.place
    shutil.rmtree(folder, ignore_errors=True)
    with replacing(folder, sync=False) as temporary:  # taken up again, cut files are seen by their ends
        temporary.mkdir()
        for index, file in enumerate(_files(spec, script, performance, subject)):
            (temporary / _frame_name(performance.first + index)).write_bytes(file)


def _files(spec: MicrofacesSpec, script: Script, performance: Performance, subject: Subject) -> Iterator[bytes]:
    """Yield the JPEG files of a clip."""
    noise, light = (
        np.random.default_rng((spec.seed, stream, script.subject, script.take))
        for stream in (streams.NOISE, streams.LIGHT)
    )
    if spec.benchmark == 1:
        yield from map(encoded, recorded(performance, subject, spec.fps, noise))
    else:
        for frame in recorded_real(performance, subject, spec.fps, spec.realism, light, noise):
            yield encoded_real(frame, spec.realism.jpeg)


def keep_one_to_one(performance: Performance, subject: Subject, alpha: float) -> Performance:
    """Make the motion of the face (see `Performance.folding`) smaller until nothing folds at alpha."""
    folding = performance.folding()
    while subject.stretch(np.where(folding, performance.magnified(alpha), 0)).min() < 0.05:
        performance = performance.scaled(0.9)
    return performance


def _save_performance(path: Path, performance: Performance) -> None:
    with replacing(path, sync=False) as temporary:  # the archive has a checksum
        np.savez_compressed(temporary, **vars(performance))


def _row(out: Path, spec: MicrofacesSpec, script: Script) -> tuple:
    """Return a clip's row of the workbook."""
    says = coded(spec, script, load_performance(out, script.place))
    numbers = (says.onset, says.apex, says.offset)
    return f"{script.subject:02d}", script.name, "", *numbers, "", says.action_units, script.emotion
