"""How a face of microfaces 2 looks when it moves: shading, lips that part, the lamp's reflection in the eyes.

All of it is a function of a frame's coefficients, as the displacement is, so that a magnified apex looks as the same
formula says.
"""

from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np

from gammer_lightning.data.microfaces import warps
from gammer_lightning.data.microfaces.facial_actions import EXPOSURE, EYES, FACIAL, HEAD, LIPS, REAL_COLUMNS
from gammer_lightning.data.microfaces.geometry import coarse_grid, depth_map, softened
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
        self.lip_line = _lip_line(landmarks)
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
        self._part_lips(image, displacement, coefficients)
        gain = self.gain(coefficients) if light is None else self.gain(coefficients) * light
        gain = warps.upsample(gain.astype(np.float32), self.framing.width, self.framing.height)
        image = cv2.multiply(image, cv2.merge([gain, gain, gain]))
        self._light_eyes(image, coefficients)
        return image

    def gap(self, displacement: np.ndarray, coefficients: np.ndarray) -> tuple[tuple[slice, slice], np.ndarray]:
        """Return where parted lips show what lies between them.

        Returns:
            Slices of rows and columns of the frame, and what share of each of their pixels ``(a, b)`` is gap.
        """
        nowhere = (slice(0), slice(0)), np.zeros((0, 0), np.float32)
        opening = float(coefficients[LIPS]) * self.framing.iod
        if self.lip_line is None or opening <= 0:
            return nowhere
        box = self._mouth_box(displacement, opening)
        share = self._openings(displacement, opening, box)
        distance = np.abs(self._below_lip_line(displacement, box))
        return box, np.clip(share / 2 - distance + 0.5, 0, np.minimum(share, 1)).astype(np.float32)

    def _part_lips(self, image: np.ndarray, displacement: np.ndarray, coefficients: np.ndarray) -> None:
        box, gap = self.gap(displacement, coefficients)
        if not gap.any():
            return
        opening = float(coefficients[LIPS]) * self.framing.iod
        widths = self._openings(displacement, opening, box)
        teeth = np.clip((widths - 2) / 4, 0, 1) * np.clip(0.7 - self._below_lip_line(displacement, box), 0, 1)
        inside = DARK + teeth[..., None].astype(np.float32) * (TEETH - DARK)
        image[box] += gap[..., None] * (inside - image[box])

    def _mouth_box(self, displacement: np.ndarray, opening: float) -> tuple[slice, slice]:
        middle = np.rint(self.lip_line.mean(0)).astype(int)
        half = np.ptp(self.lip_line[:, 0]) / 2 + 2
        moved = np.abs(displacement[middle[1], middle[0]])
        across, down = int(half + moved[0]) + 1, int(0.15 * self.framing.iod + opening + moved[1]) + 1
        rows = slice(max(middle[1] - down, 0), middle[1] + down + 1)
        return rows, slice(max(middle[0] - across, 0), middle[0] + across + 1)

    def _below_lip_line(self, displacement: np.ndarray, box: tuple[slice, slice]) -> np.ndarray:
        """Return how far below the line between the lips each pixel's content lies in the neutral face, in px."""
        places = self.framing.pixels[box] - displacement[box]
        return places[..., 1] - np.interp(places[..., 0], *self.lip_line.T)

    def _openings(self, displacement: np.ndarray, opening: float, box: tuple[slice, slice]) -> np.ndarray:
        """Return how far the lips are apart at each pixel's column, in px."""
        across = self.framing.pixels[box][..., 0] - displacement[box][..., 0]
        left, right = self.lip_line[0, 0], self.lip_line[-1, 0]
        return opening * np.clip(1 - (2 * (across - left) / (right - left) - 1) ** 2, 0, 1)

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


def _lip_line(landmarks: np.ndarray) -> np.ndarray | None:
    """Return the line between closed lips, left to right, ``(5, 2)`` in px; None where the portrait's mouth is open."""
    iod = np.linalg.norm(landmarks[42:48].mean(0) - landmarks[36:42].mean(0))
    if np.linalg.norm(landmarks[61:64] - landmarks[[67, 66, 65]], axis=1).mean() > CLOSED * iod:
        return None
    line = [landmarks[60], *(landmarks[61:64] + landmarks[[67, 66, 65]]) / 2, landmarks[64]]
    return np.array(line) if np.all(np.diff(line, axis=0)[:, 0] > 0) else None
