"""Draws docs/images/pipeline.svg, the diagram of the pipeline: python docs/draw_pipeline.py."""

from html import escape
from pathlib import Path

WIDTH, HEIGHT = 1200, 360
INK, SOFT, RULE = "#1d2329", "#56606a", "#c9d1d9"
COLOURS = {"data": "#eef3f8", "magnify": "#e3eefb", "recognize": "#e5f4ea", "result": "#fdf3dc"}
BOXES = (
    # x, y, width, height, colour, title, lines
    (16, 45, 200, 120, "data", "Clip", ("onset and apex frame,", "68 landmarks (dlib),", "one crop of 256x256 px")),
    (
        258,
        45,
        200,
        120,
        "magnify",
        "ST-MEMM",
        ("encodes both frames,", "multiplies their difference", "by alpha, decodes"),
    ),
    (
        500,
        45,
        200,
        120,
        "magnify",
        "Magnified apex",
        ("one PNG for each clip", "and alpha, kept in the", "pre-magnification cache"),
    ),
    (742, 45, 200, 120, "recognize", "Patches", ("16x16 px at the 36", "landmarks of brows,", "nose tip and mouth")),
    (984, 45, 200, 120, "recognize", "GAM-MER", ("patch CNN and graph", "attention over the", "facial graph")),
    (
        258,
        235,
        200,
        110,
        "magnify",
        "Pretraining",
        ("motion pairs with", "known magnified frames", "(gammer magnify fit)"),
    ),
    (
        500,
        235,
        200,
        110,
        "result",
        "Prediction",
        ("class of an expression", "in a video or a camera", "(gammer predict)"),
    ),
    (742, 235, 200, 110, "result", "Export", ("ONNX and TensorRT,", "compared with PyTorch", "(gammer export)")),
    (
        984,
        235,
        200,
        110,
        "result",
        "Evaluation",
        ("one member for each", "held-out subject, all", "trained in one fit"),
    ),
)
ARROWS = (
    ((216, 105), (258, 105)),
    ((458, 105), (500, 105)),
    ((700, 105), (742, 105)),
    ((942, 105), (984, 105)),
    ((358, 235), (358, 165)),
    ((1104, 165), (1104, 235)),
    ((1044, 165), (1044, 200), (842, 200), (842, 235)),
    ((742, 290), (700, 290)),
)
NOTES = ((358, 28, "alpha 5, 8, 10, 12, 15, 20"), (392, 205, "weights"))


def text(x: float, y: float, words: str, size: int, colour: str, weight: int = 400) -> str:
    """Return one centred line of text; x and y in px, y of the baseline."""
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" fill="{colour}" '
        f'text-anchor="middle">{escape(words)}</text>'
    )


def box(x: int, y: int, width: int, height: int, colour: str, title: str, lines: tuple[str, ...]) -> str:
    """Return a rounded box with its title and its lines."""
    middle = x + width / 2
    parts = [
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="10" fill="{COLOURS[colour]}" stroke="{RULE}"/>',
        text(middle, y + 30, title, 18, INK, 650),
    ]
    parts += [text(middle, y + 56 + 20 * number, line, 14, SOFT) for number, line in enumerate(lines)]
    return "\n".join(parts)


def arrow(*points: tuple[int, int]) -> str:
    """Return a line through the points with a head at its end."""
    path = " ".join(f"{x},{y}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{SOFT}" stroke-width="1.6" marker-end="url(#head)"/>'


def drawing() -> str:
    """Return the whole diagram as SVG."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif">',
            "<title>From a clip to a class: ST-MEMM magnifies the apex, GAM-MER classifies its patches</title>",
            '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            f'orient="auto"><path d="M0,0 L10,5 L0,10 z" fill="{SOFT}"/></marker></defs>',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
            *(box(*values) for values in BOXES),
            *(arrow(*points) for points in ARROWS),
            *(text(x, y, words, 14, SOFT) for x, y, words in NOTES),
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    (Path(__file__).parent / "images" / "pipeline.svg").write_text(drawing())
