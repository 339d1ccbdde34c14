"""A run on disk: its folder, checkpoints, loggers, progress and uploads."""
