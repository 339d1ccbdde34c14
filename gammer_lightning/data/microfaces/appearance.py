"""How a face of microfaces 2 looks when it moves: shading, lips that part, the lamp's reflection in the eyes.

All of it is a function of a frame's coefficients, as the displacement is, so that a magnified apex looks as the same
formula says.
"""

from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np

from gammer_lightning.data.microfaces import warps
from gammer_lightning.data.microfaces.facial_actions import (
    EXPOSURE,
    EYES,
    FACIAL,
    HEAD,
    LIPS,
    REAL_COLUMNS,
    coarse_grid,
)
from gammer_lightning.data.microfaces.geometry import depth_map, softened
from gammer_lightning.data.microfaces.portraits import Framing
from gammer_lightning.files import is_finite_array

CREASE = 0.6  # brightness lost per unit of compression, in the crease that it makes
FLESH = 0.12  # thickness of the flesh in IOD: compressed by 1 %, it bulges by 1 % of this
AMBIENT = 0.4  # share of the light that comes from everywhere
LARGEST_SHADE = 0.5  # brightness changes by less than this share, however far a motion is magnified
CLOSED = 0.04  # lips that are nearer than this, in IOD, are closed in the portrait and can part
DARK, TEETH = np.array([44, 20, 20], np.float32), np.array([150, 138, 125], np.float32)
GLINT = 110.0  # grey levels of the lamp's reflection in an eye, and its size in IOD
GLINT_SIZE = 0.014


@dataclass(frozen=True)
class Traits:
    """What a subject's truth states besides the face.

    Attributes:
        light: Direction to the lamp ``(x, y)`` where the camera is at 1: to the right and downwards are positive.
        shading: Strength of `Realism.shading`; likewise highlight and hair.
    """

    light: tuple[float, float]
    shading: float
    highlight: float
    hair: float

    def record(self) -> dict[str, Any]:
        """Return the traits as JSON."""
        return {**asdict(self), "light": list(self.light)}

    @classmethod
    def read(cls, record: Any) -> "Traits | None":
        """Return the traits of a JSON object, or None where it does not hold them."""
        names = ("shading", "highlight", "hair")
        if not isinstance(record, dict) or set(record) != {"light", *names}:
            return None
        if not is_finite_array(record["light"], (2,)) or not is_finite_array([record[name] for name in names], (3,)):
            return None
        return cls(tuple(record["light"]), *(record[name] for name in names))


def draw_light(rng: np.random.Generator) -> tuple[float, float]:
    """Draw the direction to a subject's lamp, mostly from above: see `Traits.light`."""
    return round(float(rng.uniform(-0.8, 0.8)), 4), round(float(rng.uniform(-0.8, 0.1)), 4)


class Lips:
    """Closed lips, which can part and then show what is dark between them, and teeth where they part far.

    Args:
        line: The line between them in the neutral face, from left to right, ``(N, 2)`` in px.
        framing: Size of the frame.
    """

    def __init__(self, line: np.ndarray, framing: Framing):
        self.line, self.framing = line, framing

    def gap(self, displacement: np.ndarray, opening: float) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
        """Return where parted lips show what lies between them.

        Args:
            displacement: Of the frame, ``(height, width, 2)`` in px.
            opening: How far the lips are apart in the middle, in IOD; closed at 0 and below.

        Returns:
            A box of the frame (slices of rows and columns); what share of each of its pixels is gap, ``(a, b)``; and
            what share of that shows teeth, ``(a, b)``.
        """
        opening = max(opening, 0) * self.framing.iod
        box = self._box(displacement, opening)
        places = self.framing.pixels[box] - displacement[box]
        left, right = self.line[0, 0], self.line[-1, 0]
        widths = opening * np.clip(1 - (2 * (places[..., 0] - left) / (right - left) - 1) ** 2, 0, 1)
        below = places[..., 1] - np.interp(places[..., 0], *self.line.T)
        share = np.clip(widths / 2 - np.abs(below) + 0.5, 0, np.minimum(widths, 1))
        teeth = np.clip((widths - 2) / 4, 0, 1) * np.clip(0.7 - below, 0, 1)
        return box, share.astype(np.float32), teeth.astype(np.float32)

    def part(self, image: np.ndarray, displacement: np.ndarray, opening: float) -> None:
        """Draw the gap into an image ``(height, width, 3)``, float32 in 0..255; see `gap`."""
        box, share, teeth = self.gap(displacement, opening)
        inside = DARK + teeth[..., None] * (TEETH - DARK)
        image[box] += share[..., None] * (inside - image[box])

    def _box(self, displacement: np.ndarray, opening: float) -> tuple[slice, slice]:
        """Return a box around the mouth, wherever it has moved."""
        column, row = np.rint(self.line.mean(0)).astype(int).tolist()
        moved = np.abs(displacement[row, column])
        across = int(np.ptp(self.line[:, 0]) / 2 + moved[0]) + 3
        down = int(0.15 * self.framing.iod + opening + moved[1]) + 1
        rows = slice(max(row - down, 0), row + down + 1)
        return rows, slice(max(column - across, 0), column + across + 1)


class Appearance:
    """Renders what changes when a face moves.

    Args:
        fields: Displacement of every column of `REAL_COLUMNS`, ``(K, h, w, 2)`` in px.
        landmarks: In frame px, ``(68, 2)``.
        framing: Size of the frame.
        traits: Of the subject.
    """

    def __init__(self, fields: np.ndarray, landmarks: np.ndarray, framing: Framing, traits: Traits):
        self.framing, self.landmarks, self.highlight = framing, landmarks, traits.highlight
        self.shading = traits.shading * shading_fields(fields, landmarks, framing, traits.light)
        self.lips = closed_lips(landmarks, framing)
        self.glint_offset = 0.06 * framing.iod * np.array(traits.light)
        self.eye_centres = np.stack([landmarks[36:42].mean(0), landmarks[42:48].mean(0)])
        xs, ys = coarse_grid(framing)
        columns = np.abs(xs - self.eye_centres[:, :1]).argmin(1)
        rows = np.abs(ys - self.eye_centres[:, 1:]).argmin(1)
        self.head_at_eyes = fields[list(HEAD)][:, rows, columns]

    def gain(self, coefficients: np.ndarray) -> np.ndarray:
        """Return the brightness ``(h, w)`` of every place of the coarse grid, 1 where it is that of the portrait."""
        shade = np.einsum("k,khw->hw", coefficients, self.shading)
        return np.exp(coefficients[EXPOSURE]) * (1 + LARGEST_SHADE * np.tanh(shade / LARGEST_SHADE))

    def apply(
        self, image: np.ndarray, displacement: np.ndarray, coefficients: np.ndarray, light: np.ndarray | None
    ) -> np.ndarray:
        """Shade a warped face, part its lips and light its eyes.

        Args:
            image: Float32 ``(height, width, 3)`` in 0..255; it is changed.
            displacement: ``(height, width, 2)``, in px.
            coefficients: Of the frame, ``(K,)``.
            light: Brightness of the lamps on the coarse grid ``(h, w)``, or None where they are steady.

        Returns:
            The frame, float32 in 0..255 or a little beyond.
        """
        opening = float(coefficients[LIPS])
        if self.lips is not None and opening > 0:
            self.lips.part(image, displacement, opening)
        gain = self.gain(coefficients) if light is None else self.gain(coefficients) * light
        gain = warps.upsample(gain.astype(np.float32), self.framing.width, self.framing.height)
        image = cv2.multiply(image, cv2.merge([gain, gain, gain]))
        self._light_eyes(image, coefficients)
        return image

    def _light_eyes(self, image: np.ndarray, coefficients: np.ndarray) -> None:
        blink, *gaze = coefficients[EYES]
        height = self.highlight * GLINT * float(np.clip(1 - 1.5 * blink, 0, 1))
        if height <= 0:
            return
        sigma, reach = GLINT_SIZE * self.framing.iod, int(np.ceil(4 * GLINT_SIZE * self.framing.iod))
        moved = np.einsum("k,kec->ec", coefficients[list(HEAD)], self.head_at_eyes)
        centres = self.eye_centres + self.glint_offset + moved + 0.5 * self.framing.iod * np.array(gaze)
        for x, y in centres:
            top, left = max(int(y) - reach, 0), max(int(x) - reach, 0)
            patch = image[top : int(y) + reach + 1, left : int(x) + reach + 1]
            below = np.arange(top, top + patch.shape[0]) - y
            beside = np.arange(left, left + patch.shape[1]) - x
            bump = np.exp(-(below[:, None] ** 2 + beside**2) / (2 * sigma**2))
            patch += (height * bump[..., None]).astype(np.float32)


def shading_fields(
    fields: np.ndarray, landmarks: np.ndarray, framing: Framing, light: tuple[float, float]
) -> np.ndarray:
    """Return by what share each column changes the brightness at coefficient 1.

    Skin that is compressed creases, which darkens it, and bulges, which turns its slopes to or from the lamp; a head
    that turns shows the lamp another side.

    Args:
        fields: Displacement of every column, ``(K, h, w, 2)`` in px.
        landmarks: In frame px, ``(68, 2)``.
        framing: Size of the frame.
        light: See `Traits.light`.

    Returns:
        Float32 ``(K, h, w)``; 0 for eyes, sways in the plane and the exposure.

    Source: Lambert's law, linear in the motion.
    """
    xs, ys = coarse_grid(framing)
    down, across = ys[1] - ys[0], xs[1] - xs[0]
    shading = np.zeros(fields.shape[:3], np.float32)
    lamp = np.array([*light, 1.0]) / np.sqrt(1 + light[0] ** 2 + light[1] ** 2)
    for column in FACIAL:
        moved = fields[column]
        swelling = softened(
            np.gradient(moved[..., 0], across, axis=1) + np.gradient(moved[..., 1], down, axis=0), framing
        )
        slope_down, slope_across = np.gradient(-FLESH * framing.iod * swelling, down, across)
        tilt = -(lamp[0] * slope_across + lamp[1] * slope_down)
        shading[column] = CREASE * swelling + (1 - AMBIENT) * tilt
    depth = framing.iod * depth_map(landmarks, framing)
    slope_down, slope_across = np.gradient(depth, down, across)
    normal = np.stack([-slope_across, -slope_down, np.ones_like(depth)]) / np.sqrt(slope_across**2 + slope_down**2 + 1)
    seen = np.maximum(np.einsum("c,chw->hw", lamp, normal), 0.3)
    turned = {
        "head yaw": lamp[0] * normal[2] - lamp[2] * normal[0],
        "head pitch": lamp[1] * normal[2] - lamp[2] * normal[1],
        "head roll": lamp[1] * normal[0] - lamp[0] * normal[1],
    }
    for name, change in turned.items():
        shading[REAL_COLUMNS.index(name)] = (1 - AMBIENT) * softened(change / seen, framing)
    return shading


def closed_lips(landmarks: np.ndarray, framing: Framing) -> Lips | None:
    """Return the lips of a face ``(68, 2)`` in px, or None where the portrait's mouth is open."""
    upper, lower = landmarks[[61, 62, 63]], landmarks[[67, 66, 65]]
    line = np.array([landmarks[60], *(upper + lower) / 2, landmarks[64]])
    is_open = np.linalg.norm(upper - lower, axis=1).mean() > CLOSED * framing.iod
    return None if is_open or (np.diff(line[:, 0]) <= 0).any() else Lips(line, framing)
