"""Micro-expression recognition by learned motion magnification, on PyTorch Lightning."""

__version__ = "0.1.0"
