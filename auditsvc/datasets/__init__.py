"""Data sets: images with targets and slices, and a reader for each format in which people have them."""

from auditsvc.datasets.dataset import MISSING, Batch, Dataset, SliceColumn, Slices, column_from

__all__ = ["MISSING", "Batch", "Dataset", "SliceColumn", "Slices", "column_from"]
