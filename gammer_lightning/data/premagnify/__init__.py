"""Pre-magnification: the cache, and what fills it."""
