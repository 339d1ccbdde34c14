"""The exact truth of microfaces: any frame and any true magnified apex, rendered from ``truth/``."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from gammer_lightning.data.microfaces import warps
from gammer_lightning.data.microfaces.appearance import Appearance, Traits
from gammer_lightning.data.microfaces.facial_actions import COLUMNS, LIPS, REAL_COLUMNS, Performance, motion_fields
from gammer_lightning.data.microfaces.geometry import real_motion_fields, rigid_parts
from gammer_lightning.data.microfaces.portraits import SOURCE_SCALE, Framing
from gammer_lightning.errors import GammerError
from gammer_lightning.faces.alignment import eye_centres
from gammer_lightning.files import is_finite_array, read_cached_json, read_image, read_npz

NUMBERS = ("first", "onset", "apex", "offset")
"""Fields of a `Performance` that number frames."""


@dataclass(frozen=True)
class Subject:
    """A neutral face that can be moved.

    Attributes:
        framing: Size of the frame.
        source: Neutral face at `portraits.SOURCE_SCALE`, float32 ``(h, w, 3)`` in 0..255.
        landmarks: In frame px, ``(68, 2)``.
        fields: Of `facial_actions.motion_fields`, or of `geometry.real_motion_fields`, ``(K, h, w, 2)``.
        appearance: What changes in microfaces 2 when the face moves; None in microfaces 1.
    """

    framing: Framing
    source: np.ndarray
    landmarks: np.ndarray
    fields: np.ndarray
    appearance: Appearance | None = None

    def displacement(self, coefficients: np.ndarray) -> np.ndarray:
        """Return how far each pixel's content has moved, ``(height, width, 2)`` in px."""
        # einsum, since BLAS may sum in another order with another number of threads
        coarse = np.einsum("k,khwc->hwc", coefficients, self.fields)
        return warps.upsample(coarse, self.framing.width, self.framing.height)

    def render(self, coefficients: np.ndarray, light: np.ndarray | None = None) -> np.ndarray:
        """Render a frame by one look-up in the neutral face.

        Args:
            coefficients: Of the frame, ``(K,)``.
            light: Brightness of the lamps on the grid of the fields, ``(h, w)``; None is steady light. Only with an
                `appearance`.

        Returns:
            ``(height, width, 3)``, float32 in 0..255.
        """
        displacement = self.displacement(coefficients)
        image = warps.sample(self.source, self.framing.to_source(self.framing.pixels - displacement))
        if self.appearance is None:
            return image
        return np.minimum(self.appearance.apply(image, displacement, coefficients, light), 255)

    def eyes(self) -> np.ndarray:
        """Return where the eyes are, with their lids: bool ``(height, width)``."""
        mask = np.zeros((self.framing.height, self.framing.width), np.uint8)
        axes = [round(share * self.framing.iod) for share in (0.36, 0.22)]
        for centre in np.rint(eye_centres(self.landmarks)).astype(int).tolist():
            cv2.ellipse(mask, centre, axes, 0, 0, 360, 1, -1)
        return mask > 0

    def uncovered(self, coefficients: np.ndarray) -> np.ndarray:
        """Return where a frame shows what other frames of the clip hide: bool ``(height, width)``.

        That is the gap between parted lips, and what lies beyond the edge of the neutral face.
        """
        displacement = self.displacement(coefficients)
        places = self.framing.to_source(self.framing.pixels - displacement)
        mask = np.any((places < 0) | (places > np.array(self.source.shape[1::-1]) - 1), -1)
        if self.appearance is not None and self.appearance.lips is not None:
            box, gap, _ = self.appearance.lips.gap(displacement, float(coefficients[LIPS]))
            mask[box] |= gap > 0
        return mask

    def stretch(self, coefficients: np.ndarray) -> np.ndarray:
        """Return the Jacobian determinant ``(height, width)`` of the look-up: not positive where it folds."""
        moved = self.displacement(coefficients)
        (across_y, across_x), (down_y, down_x) = (np.gradient(moved[..., axis]) for axis in (0, 1))
        return (1 - across_x) * (1 - down_y) - across_y * down_x


def _open_clip(root: Path, clip: str) -> tuple[Subject, Performance]:
    subject, name = ("", *clip.split("/"))[-2:]
    return load_subject(Path(root), subject), load_performance(Path(root), f"sub{subject}/{name}")


def displacement(root: Path, clip: str, alpha: float = 1) -> np.ndarray:
    """Return the exact displacement field from the onset to the apex magnified by alpha.

    Args:
        root: A microfaces folder.
        clip: Key or subject/name of the clip, e.g. ``"01/EP01_01"``.
        alpha: Magnification factor, 0 or more.

    Returns:
        Float32 ``(2, H, W)``, across and down, in px: content at x shows in the onset at x - displacement.
    """
    subject, acted = _open_clip(root, clip)
    moved = subject.displacement(acted.magnified(alpha)) - subject.displacement(acted.magnified(0))
    return moved.transpose(2, 0, 1)


def render_pair(
    root: Path, clip: str, alphas: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Render onset, apex and true magnified apexes, without noise, flicker and JPEG.

    Every pixel's look-up place in the neutral face moves on a line: at its onset place for alpha 0, at its
    apex place for alpha 1. Head motion and drift are magnified too, as a magnifier must. Shading and lips of
    microfaces 2 follow the magnified motion by the formula of its frames. Onset and apex are the true ones, from which
    those of the workbook may differ: `true_frames` numbers them.

    Args:
        root: A microfaces folder.
        clip: Key or subject/name of the clip, e.g. ``"microfaces/01/EP01_01"``.
        alphas: Magnification factors, 0 or more.

    Returns:
        Onset and apex ``(3, H, W)`` and magnified apexes ``(A, 3, H, W)``, float32 in [0, 1], and a mask
        ``(H, W)``, bool: True where they may be compared, that is outside the eyes (whose lids stop when
        shut) and where at none of the alphas the motion folds or uncovers what the other frames hide (see
        `Subject.uncovered`).

    Raises:
        GammerError: If the folder has no such clip.

    Source: Wu et al., Eulerian Video Magnification, ACM TOG 31(4), 2012, Eq. 2 (displacement times alpha).
    """
    subject, acted = _open_clip(root, clip)
    motions = [acted.magnified(alpha) for alpha in (0, 1, *alphas)]
    frames = np.stack([subject.render(motion).transpose(2, 0, 1) / 255 for motion in motions])
    hidden = [(subject.stretch(motion) <= 0) | subject.uncovered(motion) for motion in motions]
    return frames[0], frames[1], frames[2:], ~(subject.eyes() | np.any(hidden, 0))


def true_frames(root: Path, clip: str) -> tuple[int, int]:
    """Return the numbers of a clip's true onset and apex; the workbook of microfaces 2 states what coders say.

    Raises:
        GammerError: If the folder has no such clip.
    """
    _, acted = _open_clip(root, clip)
    return acted.onset, acted.apex


@lru_cache(maxsize=2)
def load_subject(root: Path, subject: str) -> Subject:
    """Load a subject of a microfaces folder, e.g. ``"01"``.

    Raises:
        GammerError: If the folder has no such subject, or its files are damaged.
    """
    return animated(*read_face(root, subject))


def animated(framing: Framing, source: np.ndarray, landmarks: np.ndarray, traits: Traits | None) -> Subject:
    """Return a neutral face, as of `read_face`, with the fields that move it."""
    if traits is None:
        return Subject(framing, source, landmarks, motion_fields(landmarks, framing))
    rigid = min(traits.hair, 1) * rigid_parts(source, landmarks, framing)
    fields = real_motion_fields(landmarks, framing, rigid)
    return Subject(framing, source, landmarks, fields, Appearance(fields, landmarks, framing, traits))


def read_face(root: Path, subject: str) -> tuple[Framing, np.ndarray, np.ndarray, Traits | None]:
    """Read a subject's framing, neutral face and landmarks, as in `Subject`, and its traits, if of microfaces 2.

    Raises:
        GammerError: As in `load_subject`.
    """
    folder = root / "truth" / f"sub{subject}"
    path = folder / "face.json"
    if not path.exists():
        raise _no_truth(path)
    record = read_cached_json(path)
    size, landmarks = record.get("size"), record.get("landmarks")
    if not isinstance(size, list) or len(size) != 2 or not is_finite_array(landmarks, (68, 2)):
        raise _damaged(path)
    if not all(type(side) is int and side > 0 for side in size):
        raise _damaged(path)
    traits = Traits.read(record.get("traits"))
    if traits is None and "traits" in record:
        raise _damaged(path)
    framing, landmarks = Framing(*size), np.array(landmarks)
    source = read_image(folder / "face.png").astype(np.float32)
    if source.shape != (*(SOURCE_SCALE * (side + 2 * framing.margin) for side in (framing.height, framing.width)), 3):
        raise _damaged(folder / "face.png")
    return framing, source, landmarks, traits


def _damaged(path: Path) -> GammerError:
    return GammerError(
        f"{path} is damaged or another's",
        "the truth of a microfaces folder is as `gammer data synthesize` wrote it",
        "run the command again that made the folder: it makes again what is damaged",
    )


def _no_truth(path: Path) -> GammerError:
    return GammerError(
        f"no {path}",
        "exact truth exists only for clips of a microfaces folder, named subject/clip as in 01/EP01_01",
        "make one: gammer data synthesize --out DIR",
    )


def load_performance(root: Path, place: str) -> Performance:
    """Load the motion of a clip, e.g. ``"sub01/EP01_01"``.

    Raises:
        GammerError: If the folder has no such clip, or its file is damaged.
    """
    path = root / "truth" / f"{place}.npz"
    if not path.exists():
        raise _no_truth(path)
    try:
        values = read_npz(path)
    except GammerError as error:
        raise _damaged(path) from error
    dtypes = {name: value.dtype.kind for name, value in values.items()}
    coefficients = values.get("coefficients", np.zeros(0))
    if (
        dtypes != dict.fromkeys(("emotion", "action_units"), "U") | dict.fromkeys(NUMBERS, "i") | {"coefficients": "f"}
        or any(value.ndim for name, value in values.items() if name != "coefficients")
        or coefficients.shape[1:] not in ((len(COLUMNS),), (len(REAL_COLUMNS),))
        or not np.isfinite(coefficients).all()
    ):
        raise _damaged(path)
    acted = Performance(
        values["emotion"].item(),
        values["action_units"].item(),
        values["first"].item(),
        values["onset"].item(),
        values["apex"].item(),
        values["offset"].item(),
        coefficients,
    )
    if not acted.first <= acted.onset < acted.apex <= acted.offset < acted.first + len(coefficients):
        raise _damaged(path)
    return acted
