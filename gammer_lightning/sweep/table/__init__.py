"""The table of a sweep: entries, layout, figures and page."""
