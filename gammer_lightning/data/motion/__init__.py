"""Synthetic motion pairs, which magnifiers are trained on."""
