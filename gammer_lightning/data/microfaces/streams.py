"""Streams of random numbers, each seeded by (seed, stream, subject, ...): what one draws does not move another."""

CAST, ORDER, SCRIPT, NOISE = 1, 2, 3, 4
# Of microfaces 2 alone, so that a strength changes nothing but its own nuisance.
PERSON, LAMP, UNITS, TIMING, STRENGTH, TONE, JAW, SWAY, EYES, MOUTH, EXPOSURE, LIGHT, CODERS = range(5, 18)
# Of long videos alone.
SCHEDULE, EXPRESSION, SPEECH, POSTURE = range(18, 22)
