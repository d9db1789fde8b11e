"""Found files and answers, against everything that was marked."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from auditsvc.errors import InvalidInput
from auditsvc.models import WEIGHTS
from auditsvc.records import Parent
from auditsvc.services.candidates import prune_candidate, submit_copy, watermark_for_recipient
from auditsvc.services.model_store import load_stored
from auditsvc.services.tracing import SHEET, export_query_set, identify_answers, identify_file, queries_for
from auditsvc.services.watermarking import WatermarkOptions, find_watermark_key, original_of
from auditsvc.watermark import weights_digest
from auditsvc.watermark.key_matching import BREAKS
from tests.fakes import MemoryKeys
from tests.services.line import GOOD


@pytest.fixture(scope="session")
def copies(made_once, folders):
    """The same release for nobody in particular, for anna and for bert."""
    ctx, parent, _, candidate, _ = made_once
    made = {"": candidate}
    calibration = ctx.datasets.open(folders["calibration"])
    made["anna"] = prune_candidate(ctx, parent, GOOD, calibration, marking=WatermarkOptions("anna"))
    made["bert"] = watermark_for_recipient(ctx, candidate, WatermarkOptions("bert"), calibration)
    for name in ("anna", "bert"):
        submit_copy(ctx, made[name], "sue")
    return ctx, made


def file_of(ctx, candidate, folder, change=lambda name, tensor: tensor):
    weights = {name: change(name, tensor) for name, tensor in load_stored(ctx, candidate.files).weights().items()}
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / WEIGHTS)
    return folder / WEIGHTS


def test_copies_of_one_release_share_the_unmarked_weights_and_nothing_of_the_mark(copies):
    _, made = copies
    assert len({candidate.mark.unmarked for candidate in made.values()}) == 1
    assert len({candidate.mark.commitment for candidate in made.values()}) == 3
    assert len({candidate.digest for candidate in made.values()}) == 3


def test_a_copy_is_made_without_pruning_again_and_found_again(copies, folders):
    ctx, made = copies
    calibration = ctx.datasets.open(folders["calibration"])
    assert watermark_for_recipient(ctx, made[""], WatermarkOptions("bert"), calibration) == made["bert"]
    assert watermark_for_recipient(ctx, made[""], WatermarkOptions("anna"), calibration) == made["anna"]
    assert prune_candidate(ctx, ctx.ledger.get(Parent, made[""].parent), GOOD, calibration) == made[""]
    with pytest.raises(InvalidInput, match="for whom"):
        watermark_for_recipient(ctx, made[""], WatermarkOptions(" "), calibration)


def test_a_leak_is_traced_to_the_copy_and_the_recipient(copies, tmp_path):
    ctx, made = copies
    found = identify_file(ctx, file_of(ctx, made["bert"], tmp_path, lambda _, tensor: tensor.half()))
    assert found.verdict == "MATCH" and found.tried == 3
    (trace,) = found.matches
    assert (trace.model, trace.recipient, trace.standing) == ("brightness", "bert", "submitted")
    assert "given to bert" in found.sentence


def test_recipients_who_mix_their_copies_are_both_named(copies, tmp_path):
    ctx, made = copies
    other = load_stored(ctx, made["bert"].files).weights()
    mixed = file_of(ctx, made["anna"], tmp_path, lambda name, tensor: (tensor + other[name]) / 2)
    assert {one.recipient for one in identify_file(ctx, mixed).matches} == {"anna", "bert"}


def test_a_stranger_is_no_evidence_and_never_called_not_ours(copies, tmp_path):
    ctx, made = copies
    chance = torch.Generator().manual_seed(0)

    def drawn(_, tensor):
        return torch.randn(tensor.shape, generator=chance) if tensor.is_floating_point() else tensor

    found = identify_file(ctx, file_of(ctx, made[""], tmp_path, drawn))
    assert (found.verdict, found.matches) == ("NO EVIDENCE", ())
    assert BREAKS in found.sentence and "distillation" in found.sentence and "not ours" not in found.sentence


def test_under_another_master_secret_nothing_can_be_compared_and_it_is_said(copies, tmp_path):
    ctx, made = copies
    elsewhere = replace(ctx, keys=MemoryKeys(2))
    with pytest.raises(InvalidInput, match="master secret"):
        identify_file(elsewhere, file_of(ctx, made[""], tmp_path))


def test_the_kept_weights_are_the_unmarked_ones_and_lie_nowhere_in_the_clear(copies):
    ctx, made = copies
    copy = find_watermark_key(ctx, made[""].mark)
    original = original_of(ctx, copy).weights
    assert weights_digest(original) == made[""].mark.unmarked
    largest = max(original.values(), key=torch.Tensor.numel).numpy().tobytes()
    assert largest[:32] not in ctx.blobs.read(copy.original)


def test_the_queries_are_committed_to_in_the_public_mark(copies):
    ctx, made = copies
    assert {queries.digest for queries in queries_for(ctx)} == {
        candidate.mark.parameters["queries"] for candidate in made.values()
    }


def answered(folder, model, classes, columns):
    """Fill in the sheet with what the model answers to the picture files."""
    names = sorted(path.name for path in folder.glob("*.png"))
    pixels = [torch.tensor(list(Image.open(folder / name).getdata())).reshape(1, 28, 28) / 255 for name in names]
    with torch.inference_mode():
        told = model(torch.stack(pixels))
    with (folder / SHEET).open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("image", *(reversed(classes) if columns else ("label",))))
        for name, row in zip(names, told, strict=True):
            writer.writerow((name, *(row.flip(0).tolist() if columns else (classes[int(row.argmax())],))))
    return folder / SHEET


@pytest.mark.parametrize("columns", [True, False])
def test_answers_go_out_as_pictures_and_come_back_as_a_sheet(copies, tmp_path, columns):
    ctx, made = copies
    count = export_query_set(queries_for(ctx), tmp_path / "out")
    assert count == 10
    model = load_stored(ctx, made["anna"].files)
    found = identify_answers(ctx, answered(tmp_path / "out", model, model.card.classes, columns))
    assert found.tried == 3
    assert "answers alone" in found.sentence or found.verdict == "MATCH"


def test_a_sheet_with_gaps_or_of_other_classes_is_refused_with_reasons(copies, tmp_path):
    ctx, _ = copies
    export_query_set(queries_for(ctx), tmp_path / "out")
    with pytest.raises(InvalidInput, match="pictures have no answer"):
        identify_answers(ctx, tmp_path / "out" / SHEET)
    names = [path.name for path in (tmp_path / "out").glob("*.png")]
    (tmp_path / "out" / SHEET).write_text("image,label\n" + "".join(f"{name},purple\n" for name in names))
    with pytest.raises(InvalidInput, match="none of its classes"):
        identify_answers(ctx, tmp_path / "out" / SHEET)
    (tmp_path / "out" / SHEET).write_text("picture;label\n")
    with pytest.raises(InvalidInput, match="first line"):
        identify_answers(ctx, tmp_path / "out" / SHEET)
