"""A tiny data set in CASME II's layout: a photograph, and the same with its lower part moved a little."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from skimage import data

EMOTIONS = ("happiness", "surprise", "disgust", "repression", "others")


def portrait(width: int = 140, height: int = 170, shift: float = 0.0) -> np.ndarray:
    """Return the astronaut's face, uint8 RGB ``(height, width, 3)``, its lower part moved by ``shift`` px."""
    face = cv2.resize(data.astronaut()[10:230, 132:313], (width, height), interpolation=cv2.INTER_AREA)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    below_nose = 1 / (1 + np.exp(-(rows / height - 0.6) * 30))
    return cv2.remap(face, columns, rows - shift * below_nose, cv2.INTER_LINEAR)


def save(image: np.ndarray, path: Path) -> None:
    """Write uint8 RGB to an image file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 97])


def write_sample(root: Path, subjects: int = 2, clips: int = 2, **size: int) -> list[dict]:
    """Write ``subjects * clips`` clips, frames 9 to 11, apex 10; return the workbook's rows."""
    rows = []
    for number in range(subjects * clips):
        subject, name = f"{number // clips + 1:02d}", f"EP{number % clips + 1:02d}_01"
        folder = root / "Cropped" / f"sub{subject}" / name
        for frame, shift in ((9, 0.0), (10, 0.5 + 0.1 * number), (11, 0.2)):
            save(portrait(shift=shift, **size), folder / f"reg_img{frame}.jpg")
        rows.append(
            {
                "Subject": subject,
                "Filename": name,
                "OnsetFrame": 9,
                "ApexFrame": 10,
                "OffsetFrame": 11,
                "Action Units": "12",
                "Estimated Emotion": EMOTIONS[number % len(EMOTIONS)],
            }
        )
    write_workbook(root, rows)
    return rows


def write_workbook(root: Path, rows: list[dict]) -> None:
    """Write the coding workbook."""
    pd.DataFrame(rows).to_excel(root / "CASME2-coding-sample.xlsx", index=False)
