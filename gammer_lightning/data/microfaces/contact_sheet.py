"""The contact sheet of a microfaces folder: a clip of each class, with its true magnified apexes."""

import itertools
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from gammer_lightning.data.clips.casme2 import read_casme2
from gammer_lightning.data.clips.clip import Clip
from gammer_lightning.data.microfaces.facial_actions import CLASSES
from gammer_lightning.data.microfaces.truth import render_pair
from gammer_lightning.files import replacing

CONTACT_SHEET = "contact_sheet.png"


def contact_sheet(root: Path, path: Path) -> None:
    """Draw one clip per class: onset, apex, and the true apex magnified 5, 10 and 20 times.

    Args:
        root: A microfaces folder.
        path: The PNG to write.
    """
    clips = read_casme2(Path(root), "microfaces")
    subjects = sorted({clip.subject for clip in clips})
    chosen = zip(CLASSES, itertools.cycle(subjects), strict=False)
    picked = [_pick(clips, emotion, subject) for emotion, subject in chosen]
    rows = [_strip(root, clip) for clip in picked if clip is not None]
    with replacing(path) as temporary:
        Image.fromarray(np.vstack(rows)).save(temporary)


def _pick(clips: list[Clip], emotion: str, subject: str) -> Clip | None:
    """Return a clip of a class, of this subject if it has one; None where nobody has."""
    showing = [clip for clip in clips if clip.emotion == emotion]
    return next((clip for clip in showing if clip.subject == subject), next(iter(showing), None))


def _strip(root: Path, clip: Clip) -> np.ndarray:
    onset, apex, magnified, _ = render_pair(root, clip.key, (5, 10, 20))
    images = np.concatenate([[onset, apex], magnified]).transpose(2, 0, 3, 1)
    row = Image.fromarray(np.rint(255 * images.reshape(len(images), -1, 3)).astype(np.uint8))
    draw, width = ImageDraw.Draw(row), row.width // 5
    for column, label in enumerate(("onset", "apex", "alpha 5", "alpha 10", "alpha 20")):
        place = (column * width + 4, row.height - 16)
        text = f"{clip.subject} {clip.emotion} AU {clip.action_units}" if column == 0 else label
        draw.text(place, text, "white", stroke_width=1, stroke_fill="black")
    return np.asarray(row)
