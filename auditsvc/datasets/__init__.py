"""Data sets: images with targets and slices, and one reader per format."""

from auditsvc.datasets.dataset import MISSING, Batch, Dataset, SliceColumn, Slices, column_from
from auditsvc.datasets.readers import recognise

__all__ = ["MISSING", "Batch", "Dataset", "SliceColumn", "Slices", "column_from", "recognise"]
