"""Prediction and magnification of videos, folders of frames and cameras, as streams."""
