"""Streams of random numbers, each seeded by (seed, stream, subject, ...): what one draws does not move another."""

CAST, ORDER, SCRIPT, NOISE = 1, 2, 3, 4
