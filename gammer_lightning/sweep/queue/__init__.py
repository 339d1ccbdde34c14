"""The queue of a sweep: its study, supervisor, and rows as processes."""
