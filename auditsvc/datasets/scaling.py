"""Images of several sizes, as one model takes them."""

from __future__ import annotations

from dataclasses import replace

from auditsvc.datasets.dataset import Dataset
from auditsvc.datasets.image_dataset import ImageDataset
from auditsvc.datasets.multi_domain import MultiDomainDataset
from auditsvc.datasets.prediction_table import PredictedDataset
from auditsvc.datasets.slicing import ReslicedDataset
from auditsvc.records.architecture import ArchitectureCard, InputSpec


def scaled_for(dataset: Dataset, card: ArchitectureCard) -> Dataset:
    """The same images; those of several sizes are scaled, each from its file, as the card says, to its input's size."""
    if isinstance(dataset, ImageDataset):
        return dataset.scaled_for(card)
    if isinstance(dataset, ReslicedDataset) and not isinstance(dataset, PredictedDataset):
        return replace(dataset, whole=scaled_for(dataset.whole, card))
    if isinstance(dataset, MultiDomainDataset):
        return replace(dataset, own=scaled_for(dataset.own, card), other=scaled_for(dataset.other, card))
    return dataset


def one_size(dataset: Dataset) -> InputSpec | None:
    """The size that all images have; None where they have several."""
    if isinstance(dataset, ReslicedDataset):
        return one_size(dataset.whole)
    if isinstance(dataset, ImageDataset) and dataset.several_sizes:
        return None
    channels, height, width = next(dataset.batches(1)).images.shape[1:]
    return InputSpec(channels=channels, height=height, width=width)
