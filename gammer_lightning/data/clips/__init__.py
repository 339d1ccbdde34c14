"""Clips: their record, the readers of data sets, annotations, class sets and apexes."""
