"""The embedded benchmark microfaces: portraits animated by action units, with their exact motion."""
