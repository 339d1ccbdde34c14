"""Markdown tables, and numbers as they are printed in them."""

from collections.abc import Iterable


def _digits(values: Iterable[float | None]) -> list[str]:
    return ["-" if value is None else f"{value:.3f}" for value in values]
