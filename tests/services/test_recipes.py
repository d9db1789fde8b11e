"""Recipes that need data or another number format go down the whole line, and their mark is still found."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from auditsvc import pruning
from auditsvc.errors import InvalidInput
from auditsvc.models import load_model, read_weights
from auditsvc.ports import Context
from auditsvc.records import Parent, Recipe
from auditsvc.runtimes.onnx_export import compare_onnx
from auditsvc.services.candidates import prune_candidate, register_parent
from auditsvc.services.model_store import load_stored, stored_tensors
from auditsvc.services.sweep import cost_lines, measure_latency
from auditsvc.services.watermarking import detect_watermark
from tests.services.line import FACTS, ports_in


@pytest.fixture
def start(folders: dict[str, Path], tmp_path: Path) -> tuple[Context, Parent]:
    ctx = ports_in(tmp_path)
    return ctx, register_parent(ctx, folders["parent"], FACTS)[0]


def test_an_int8_candidate_with_recovery_is_marked_timed_and_comes_with_its_onnx(
    start: tuple[Context, Parent], folders: dict[str, Path]
) -> None:
    ctx, parent = start
    calibration, audited = (ctx.datasets.open(folders[name]) for name in ("calibration", "audited"))
    recipe = Recipe(
        method="structured-l1",
        targets={"macs": 1.5, "round_to": 1},
        data=calibration.ref.digest,
        recovery={"batch-norm": {"images": 20}, "fine-tune": {"epochs": 6, "batch": 10, "rate": 0.05}},
        number_format="int8",
    )
    with pytest.raises(InvalidInput, match="needs the data set"):
        prune_candidate(ctx, parent, recipe, calibration)
    candidate = prune_candidate(ctx, parent, recipe, calibration, (calibration,), onnx=True)
    assert prune_candidate(ctx, parent, recipe, calibration, onnx=True) == candidate
    assert stored_tensors(ctx, candidate.files)[0]["head.weight"].dtype == torch.int8
    (graph,) = [file for file in candidate.files if file.name == "model.onnx"]
    model, images = load_stored(ctx, candidate.files), next(audited.batches(60)).images
    assert compare_onnx(ctx.blobs.read(graph.digest), model, images) == ()
    found = detect_watermark(ctx, candidate, audited)
    assert found.log10_p < -6 and found.flipped.mean() < 0.05
    lines = cost_lines(ctx, candidate, parent, measure_latency(ctx, candidate, parent, audited, runs=8))
    assert "95 % interval" in lines[3] and "; ONNX Runtime" in lines[3]
    assert candidate.card["bytes_dense"] < 0.6 * 4 * candidate.card["parameters"] + 4000


def test_halves_are_saved_as_halves_and_zeros_are_said_to_bring_no_speed(
    start: tuple[Context, Parent], folders: dict[str, Path]
) -> None:
    ctx, parent = start
    calibration = ctx.datasets.open(folders["calibration"])
    recipe = Recipe(method="magnitude-global", targets={"sparsity": 0.5}, number_format="bfloat16")
    candidate = prune_candidate(ctx, parent, recipe, calibration)
    saved, _ = stored_tensors(ctx, candidate.files)
    assert {tensor.dtype for tensor in saved.values() if tensor.is_floating_point()} == {torch.bfloat16}
    assert detect_watermark(ctx, candidate, calibration).log10_p < -6
    assert "no speed" in cost_lines(ctx, candidate, parent, None)[-1]


@pytest.mark.parametrize("number_format", pruning.FORMATS)
def test_saved_tensors_stand_for_floats_and_floats_go_back_to_what_was_saved(
    folders: dict[str, Path], tmp_path: Path, number_format: str
) -> None:
    ctx = ports_in(tmp_path)
    data = ctx.datasets.open(folders["calibration"])
    recipe = Recipe(method="none", targets={}, data=data.ref.digest, number_format=number_format)
    saved = pruning.prune(load_model(folders["parent"]), recipe, data)
    floats = pruning.in_float(saved)
    wanted = read_weights((folders["parent"] / "model.safetensors").read_bytes())
    assert set(floats) == set(wanted)
    for name, tensor in floats.items():
        assert torch.allclose(
            tensor.float(), wanted[name].float(), rtol=0.01, atol=0.01 * float(wanted[name].abs().max())
        )
    again = pruning.in_format_of(floats, saved)
    assert {name: tensor.dtype for name, tensor in again.items()} == {name: t.dtype for name, t in saved.items()}
    assert all(torch.equal(again[name], saved[name]) for name in saved if not name.endswith("weight_scale"))
