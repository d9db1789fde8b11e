"""Model import: admission of files, ONNX as it is and as layers, and the round trip through a clean process.

Files are identified by content, never by name, and no pickle is opened.  ONNX is parsed, run and converted in clean
child processes with an empty environment and hard limits on memory, time and file sizes.  ``open_onnx`` gives a model
that ONNX Runtime runs as it is; ``from_onnx`` converts it to data (a list of nodes and a safetensors file), accepted
only after comparison with ONNX Runtime.
"""

from auditsvc.importing.clean_process import FOR_RUNTIMES, LIMITS, ONNX, inspect_folder, is_model_folder
from auditsvc.importing.onnx_import import from_onnx
from auditsvc.importing.onnx_session import (
    ONNX_FILE,
    OnnxFile,
    batch_bound,
    batch_faults,
    one_by_one,
    open_folder,
    open_onnx,
    runs_of,
)
from auditsvc.importing.recognition import ModelRecognition, find_model, imported, recognise_model
from auditsvc.importing.round_trip import Trip, round_trip, round_trip_all
from auditsvc.importing.runtime_session import converted
