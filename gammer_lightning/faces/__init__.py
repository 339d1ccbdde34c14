"""Faces: alignment, landmark regions and the facial graph."""
