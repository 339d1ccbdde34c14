"""Data: clip records, readers of data sets, faces, pre-magnification and DataModules."""
