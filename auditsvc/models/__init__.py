"""Models: architectures by name, safe loading and saving of weights."""

from auditsvc.models.architectures import architecture_names, build
from auditsvc.models.model import Model
from auditsvc.models.model_files import WEIGHTS, assemble, load_model, model_files, read_card, read_weights
from auditsvc.records.architecture import CARD, ArchitectureCard, InputSpec
