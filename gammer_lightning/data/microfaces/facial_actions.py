"""What moves in a micro-expression clip: FACS action units, distractors, and their course over time.

Every motion is a column of coefficients over time; `motion_fields` gives the dense field of each column, so
that a frame's displacement is the sum of its coefficients times the fields.

Sources: Ekman, Friesen and Hager, Facial Action Coding System, 2002; EMFACS for the prototypes; Yan et al.,
CASME II, PLoS ONE 2014, for its classes and durations.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from gammer_lightning.data.microfaces import warps
from gammer_lightning.data.microfaces.portraits import Framing
from gammer_lightning.faces.alignment import eye_centres
from gammer_lightning.faces.graph import MIRROR

# Points beside the 68 landmarks that flesh needs: cheeks, chin boss, centres of the eyes.
CHEEK, CHIN, EYE = 68, 70, 71
POINTS = 73
POINT_MIRROR = np.array([*MIRROR, 69, 68, 70, 72, 71])

# Full expressions: point -> (outward, up) in IOD, for the left half of the image and the midline. What moves
# takes its surroundings along (lids, the other lip, cheeks): without these, magnified skin would fold.
ACTION_UNITS: dict[int, dict[int, tuple[float, float]]] = {
    1: {18: (0, 0.02), 19: (0, 0.04), 20: (0, 0.065), 21: (0, 0.08), 27: (0, 0.05), 28: (0, 0.02),
        37: (0, 0.008), 38: (0, 0.012), 39: (0, 0.005)},
    2: {17: (0, 0.07), 18: (0, 0.08), 19: (0, 0.06), 20: (0, 0.035), 21: (0, 0.015), 36: (0, 0.01),
        37: (0, 0.01), 38: (0, 0.005), 0: (0, 0.02)},
    4: {18: (0, -0.03), 19: (-0.02, -0.06), 20: (-0.04, -0.09), 21: (-0.05, -0.10), 27: (0, -0.05),
        37: (0, -0.01), 38: (0, -0.02)},
    5: {37: (0, 0.035), 38: (0, 0.035), 18: (0, 0.01), 19: (0, 0.01), 20: (0, 0.01)},
    6: {CHEEK: (0, 0.05), 36: (-0.01, 0), 40: (0, 0.025), 41: (0, 0.03)},
    7: {37: (0, -0.015), 38: (0, -0.015), 40: (0, 0.035), 41: (0, 0.035), CHEEK: (0, 0.01)},
    9: {21: (-0.02, -0.04), 29: (0, 0.02), 30: (0, 0.06), 31: (0.03, 0.14), 32: (0.01, 0.12), 33: (0, 0.10),
        48: (0, 0.045), 49: (0, 0.08), 50: (0, 0.10), 51: (0, 0.09), 60: (0, 0.05), 61: (0, 0.085),
        62: (0, 0.085), 66: (0, 0.083), 67: (0, 0.083), 57: (0, 0.06), 58: (0, 0.06), 59: (0, 0.05),
        CHEEK: (0.01, 0.07), CHIN: (0, 0.03)},
    10: {31: (0.01, 0.045), 32: (0, 0.035), 33: (0, 0.03), 48: (0, 0.035), 49: (0, 0.07), 50: (0, 0.09),
         51: (0, 0.08), 60: (0, 0.04), 61: (0, 0.075), 62: (0, 0.075), 66: (0, 0.073), 67: (0, 0.073),
         57: (0, 0.05), 58: (0, 0.05), 59: (0, 0.04), CHEEK: (0, 0.05), CHIN: (0, 0.02)},
    12: {48: (0.17, 0.17), 60: (0.14, 0.15), 49: (0.10, 0.10), 59: (0.10, 0.12), 50: (0.04, 0.05),
         58: (0.05, 0.07), 61: (0.045, 0.065), 67: (0.045, 0.07), 51: (0, 0.03), 62: (0, 0.04),
         57: (0, 0.045), 66: (0, 0.045), 33: (0, 0.01), CHEEK: (0.05, 0.07), CHIN: (0, 0.02), 3: (0.03, 0.02),
         4: (0.05, 0.04), 5: (0.04, 0.04), 6: (0.02, 0.03)},
    14: {48: (0.08, 0.01), 60: (0.065, 0.01), 49: (0.045, 0), 59: (0.045, 0.01), 50: (0.02, 0), 58: (0.02, 0),
         61: (0.022, 0), 67: (0.022, 0), CHEEK: (0.02, 0), 3: (0.02, 0), 4: (0.03, 0), 5: (0.03, 0)},
    15: {48: (0.02, -0.08), 60: (0.02, -0.075), 59: (0.01, -0.06), 49: (0.01, -0.05), 58: (0, -0.03),
         50: (0, -0.015), 61: (0, -0.03), 67: (0, -0.03), 5: (0, -0.02), 6: (0, -0.02)},
    17: {CHIN: (0, 0.08), 57: (0, 0.07), 58: (0, 0.06), 59: (0, 0.03), 66: (0, 0.06), 67: (0, 0.05),
         61: (0, 0.04), 62: (0, 0.045), 51: (0, 0.03), 50: (0, 0.025), 7: (0, 0.04), 8: (0, 0.05)},
    24: {50: (0, -0.025), 51: (0, -0.025), 61: (0, -0.01), 62: (0, -0.01), 48: (-0.03, 0), 60: (-0.03, 0),
         49: (-0.015, -0.015), 59: (-0.015, 0.015), 57: (0, 0.04), 58: (0, 0.035), 66: (0, 0.01),
         67: (0, 0.01), 33: (0, -0.005), CHIN: (0, 0.03)},
}  # fmt: skip

# EMFACS combinations for CASME II's classes; AU 4 is shared, as it is there.
PROTOTYPES = {
    "happiness": ((12,), (6, 12), (6, 12)),
    "surprise": ((1, 2), (1, 2, 5), (2, 5)),
    "disgust": ((9,), (10,), (4, 9), (4, 10)),
    "repression": ((15,), (17,), (15, 17), (14, 17)),
    "others": ((4,), (4, 7), (4, 14), (14,), (4, 24)),
}
CLASSES = tuple(PROTOTYPES)

SIDES = ("R", "L")  # the subject's own right is on the left of the image
UNIT_COLUMNS = [(unit, side) for unit in ACTION_UNITS for side in SIDES]
EYE_COLUMNS = ("blink", "gaze across", "gaze down")
HEAD_COLUMNS = ("jaw 0", "jaw 1", "jaw 2", "head across", "head down", "head roll", "head zoom")
COLUMNS = (*(f"AU{unit}{side}" for unit, side in UNIT_COLUMNS), *EYE_COLUMNS, *HEAD_COLUMNS)
EXTRA_COLUMNS = ("head yaw", "head pitch", "lips", "swallow", "exposure")
"""Of microfaces 2 alone: angles in rad, the opening of the lips and the lift of the chin in IOD, the log of a gain."""
REAL_COLUMNS = (*COLUMNS, *EXTRA_COLUMNS)
EYES = slice(len(UNIT_COLUMNS), len(UNIT_COLUMNS) + len(EYE_COLUMNS))
LIPS, SWALLOW, EXPOSURE = (REAL_COLUMNS.index(name) for name in ("lips", "swallow", "exposure"))
JAW = tuple(REAL_COLUMNS.index(name) for name in HEAD_COLUMNS if name.startswith("jaw"))
IN_PLANE = tuple(REAL_COLUMNS.index(name) for name in HEAD_COLUMNS if name.startswith("head"))
OUT_OF_PLANE = tuple(REAL_COLUMNS.index(name) for name in ("head yaw", "head pitch"))
HEAD = (*IN_PLANE, *OUT_OF_PLANE)
FACIAL = (*range(EYES.start), *JAW, LIPS, SWALLOW)  # what moves skin against skin
EYE_LIMITS = np.array([[0, -0.05, -0.05], [1, 0.05, 0.05]])  # of lids and, in IOD, gaze: magnified or not

PEAK = (0.004, 0.02)  # IOD: .4 to 2 px, before it is capped, in CASME II's frames
TONE = 0.008  # every muscle drifts by this share of its full expression (standard deviation)
# Standard deviations of `HEAD_COLUMNS`: IOD; the roll in rad, the zoom a fraction.
HEAD_DRIFT = np.array([0.004, 0.003, 0.003, 0.0015, 0.0015, 0.001, 0.0007])


@dataclass(frozen=True)
class Performance:
    """One clip as it is acted.

    Attributes:
        emotion: Class, in CASME II's words.
        action_units: As CASME II writes them, e.g. ``"4+L14"``.
        first: Absolute number of the first frame; onset, apex and offset are absolute too.
        coefficients: One row per frame and one column per name in `COLUMNS`, or in `REAL_COLUMNS` in microfaces
            2, float32 ``(T, K)``.
    """

    emotion: str
    action_units: str
    first: int
    onset: int
    apex: int
    offset: int
    coefficients: np.ndarray

    def at(self, number: int) -> np.ndarray:
        """Return the coefficients ``(K,)`` of an absolute frame number."""
        return self.coefficients[number - self.first]

    def magnified(self, alpha: float) -> np.ndarray:
        """Return the coefficients ``(K,)`` of the apex magnified by alpha: 0 is the onset, 1 the apex.

        Lids stop when shut and eyes when turned aside: beyond that no true image exists.
        """
        onset, apex = self.at(self.onset), self.at(self.apex)
        result = onset + np.float32(alpha) * (apex - onset)
        result[EYES] = np.clip(result[EYES], *EYE_LIMITS)
        return result

    def folding(self) -> np.ndarray:
        """Return which columns are kept from folding the skin, bool ``(K,)``.

        They are all but those of the eyes; in microfaces 2, whose larger turns of the head are left as they are, those
        of the face alone.
        """
        columns = self.coefficients.shape[1]
        if columns == len(REAL_COLUMNS):
            return np.isin(np.arange(columns), FACIAL)
        return ~np.isin(np.arange(columns), np.r_[EYES])

    def scaled(self, factor: float) -> "Performance":
        """Return the same clip with its `folding` motion made smaller or larger."""
        factors = np.where(self.folding(), factor, 1).astype(np.float32)
        return replace(self, coefficients=self.coefficients * factors)


def unit_moves() -> np.ndarray:
    """Return what each action unit column does to the points: ``(columns, POINTS, 2)``, IOD, y downwards."""
    moves = np.zeros((len(UNIT_COLUMNS), POINTS, 2))
    for column, (unit, side) in enumerate(UNIT_COLUMNS):
        for point, (outward, up) in ACTION_UNITS[unit].items():
            twin = POINT_MIRROR[point]
            target, direction = (point, -1) if side == "R" else (twin, 1)
            share = 0.5 if point == twin else 1
            moves[column, target] = share * direction * outward, -share * up
    return moves


def control_points(landmarks: np.ndarray) -> np.ndarray:
    """Add cheeks, chin boss and centres of the eyes to landmarks ``(68, 2)``: ``(POINTS, 2)``."""
    corners = (landmarks[[41, 48, 2]], landmarks[[46, 54, 14]])
    cheeks = [np.array([0.5, 0.3, 0.2]) @ corner for corner in corners]
    chin = 0.5 * (landmarks[8] + landmarks[57])
    return np.vstack([landmarks, *cheeks, chin, eye_centres(landmarks)])


def motion_fields(landmarks: np.ndarray, framing: Framing) -> np.ndarray:
    """Return the displacement field of every column at coefficient 1.

    Args:
        landmarks: Of the neutral face, in frame px, ``(68, 2)``.
        framing: Size of the frame.

    Returns:
        Float32 ``(K, h, w, 2)`` on a grid of about 4 px, values in px. The frame's border stays fixed,
        except under head motion.
    """
    border = warps.border_points(0, 0, framing.width - 1, framing.height - 1)
    moves = np.concatenate([unit_moves(), _eye_moves(landmarks) / framing.iod, _jaw_moves()])
    values = np.concatenate([moves, np.zeros((len(moves), len(border), 2))], 1)
    xs, ys = coarse_grid(framing)
    points = np.concatenate([control_points(landmarks), border])
    fields = warps.thin_plate_fields(points, values.transpose(1, 0, 2).reshape(len(points), -1), xs, ys)
    fields = fields.reshape(len(ys), len(xs), -1, 2).transpose(2, 0, 1, 3)
    return (np.concatenate([fields, _head_fields(xs, ys, framing)]) * framing.iod).astype(np.float32)


def coarse_grid(framing: Framing) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns ``(w,)`` and rows ``(h,)``, in px, of the grid of about 4 px on which fields are given."""
    xs, ys = (warps.cell_centres(0, length, math.ceil(length / 4)) for length in (framing.width, framing.height))
    return xs, ys


def _eye_moves(landmarks: np.ndarray) -> np.ndarray:
    moves = np.zeros((len(EYE_COLUMNS), POINTS, 2))
    for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46)):
        moves[0, upper] = 0.6 * (landmarks[lower] - landmarks[upper])  # more would fold the lid
    left, right = eye_centres(landmarks)
    iod = np.linalg.norm(right - left)
    moves[1, EYE:], moves[2, EYE:] = (iod, 0), (0, iod)
    return moves


def _jaw_moves() -> np.ndarray:
    moves = np.zeros((3, POINTS, 2))
    angle = np.linspace(0, np.pi, 17)
    for mode in range(3):
        moves[mode, :17] = np.cos(mode * angle)[:, None] * np.stack([-np.cos(angle), np.sin(angle)], 1)
    return moves


def _head_fields(xs: np.ndarray, ys: np.ndarray, framing: Framing) -> np.ndarray:
    place = np.stack(np.meshgrid(xs - framing.width / 2, ys - framing.height / 2), -1) / framing.iod
    across, down = np.zeros_like(place), np.zeros_like(place)
    across[..., 0], down[..., 1] = 1, 1
    return np.stack([across, down, place[..., ::-1] * [-1, 1], place])


def perform(emotion: str, fps: int, rng: np.random.Generator) -> Performance:
    """Act one clip: a prototype of its class at random strength, side and speed, and the distractors."""
    first, lead, tail = (int(rng.integers(*span)) for span in ((11, 250), (3, 10), (3, 10)))
    length = max(4, round(rng.uniform(0.2, 0.5) * fps))
    rise = int(np.clip(round(rng.uniform(0.3, 0.6) * length), 2, length - 2))
    frames = np.arange(-lead, length + tail + 1)
    text, strengths = _draw_units(emotion, rng)
    seconds = frames / fps
    units = course(frames, rise, length)[:, None] * strengths + TONE * drift(seconds, len(strengths), rng)
    head = HEAD_DRIFT * drift(seconds, len(HEAD_COLUMNS), rng)
    coefficients = np.concatenate([units, _eyes(seconds, rng), head], 1).astype(np.float32)
    onset = first + lead
    return Performance(emotion, text, first, onset, onset + rise, onset + length, coefficients)


def _draw_units(emotion: str, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """Draw the action units of a clip: their text, and the strength of each column at the apex."""
    strengths, text = np.zeros(len(UNIT_COLUMNS)), []
    for unit in PROTOTYPES[emotion][rng.integers(len(PROTOTYPES[emotion]))]:
        side = SIDES[rng.integers(2)] if unit in (10, 14) and rng.random() < 0.3 else ""
        text.append(f"{side}{unit}")
        for name, balance in zip(SIDES, rng.uniform(0.7, 1.3, 2), strict=True):
            strengths[UNIT_COLUMNS.index((unit, name))] = balance * (side in ("", name))
    strengths *= rng.uniform(0.05, 0.15)
    peak = np.linalg.norm(np.tensordot(strengths, unit_moves(), 1), axis=-1).max()
    return "+".join(text), strengths * np.clip(peak, *PEAK) / peak


def course(frames: np.ndarray, rise: int, length: int) -> np.ndarray:
    """Intensity over time: 0 at the onset (frame 0), 1 at the apex, 0 at the offset, smooth in between."""
    share = np.interp(frames, [0, rise, length], [0, 1, 0])
    return share**2 * (3 - 2 * share)


def drift(
    seconds: np.ndarray, count: int, rng: np.random.Generator, rates: tuple[float, float] = (0.3, 3)
) -> np.ndarray:
    """Slow, smooth random motion ``(T, count)`` of unit variance: four sinusoids each, of rates in Hz."""
    frequencies, phases = rng.uniform(*rates, (4, count)), rng.uniform(0, 2 * np.pi, (4, count))
    return np.sin(2 * np.pi * frequencies * seconds[:, None, None] + phases).sum(1) / np.sqrt(2)


def _eyes(seconds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blink and gaze ``(T, 3)``: each in about half of the clips, at any time."""
    moments = rng.uniform(seconds[0], seconds[-1], 2)
    blink = (rng.random() < 0.5) * rng.uniform(0.2, 1) * np.exp(-(((seconds - moments[0]) / 0.05) ** 2))
    saccade = (rng.random() < 0.5) / (1 + np.exp(-(seconds - moments[1]) / 0.008))
    gaze = saccade[:, None] * rng.uniform(-0.04, 0.04, 2) * [1, 0.5]
    return np.column_stack([blink, gaze])
