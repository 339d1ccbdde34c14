"""``fit`` and ``test``: settings, run folder, resume."""
