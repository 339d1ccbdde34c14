"""Inputs of the systems that the paper compares with: optical flow, and hand-made descriptors."""
