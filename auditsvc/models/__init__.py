"""Models: architectures by name, safe loading and saving of weights."""

from auditsvc.models.card import ArchitectureCard, InputSpec
from auditsvc.models.files import CARD, WEIGHTS, assemble, load_model, model_files, read_card
from auditsvc.models.model import Model
from auditsvc.models.reading import read_weights
from auditsvc.models.zoo import architecture_names, build

__all__ = [
    "CARD",
    "WEIGHTS",
    "ArchitectureCard",
    "InputSpec",
    "Model",
    "architecture_names",
    "assemble",
    "build",
    "load_model",
    "model_files",
    "read_card",
    "read_weights",
]
