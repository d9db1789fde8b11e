"""Intake: which files are admitted, and proof that they load the same in a clean process.

Nothing here opens a pickle, and nothing that was sent is trusted because of its name.
"""

from auditsvc.importing.clean_process import LIMITS, ONNX, inspect_folder
from auditsvc.importing.onnx_import import from_onnx
from auditsvc.importing.round_trip import Trip, round_trip, round_trip_all

__all__ = ["LIMITS", "ONNX", "Trip", "from_onnx", "inspect_folder", "round_trip", "round_trip_all"]
