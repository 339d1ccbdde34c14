"""Markdown tables, and numbers as they are printed in them."""

from collections.abc import Iterable, Sequence

from gammer_lightning.escapes import markdown_cell


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table in Markdown, its texts escaped."""
    lines = [headings, ["---"] * len(headings), *rows]
    return ["| " + " | ".join(map(markdown_cell, line)) + " |" for line in lines]


def mean_and_std(mean: float, std: float | None) -> str:
    """Return ``mean ± standard deviation`` with three decimals; the mean alone where there is no spread."""
    return f"{mean:.3f}" if std is None else f"{mean:.3f} ± {std:.3f}"


def three_decimals(values: Iterable[float | None]) -> list[str]:
    """Return numbers with three decimals, a dash for None."""
    return ["-" if value is None else f"{value:.3f}" for value in values]
