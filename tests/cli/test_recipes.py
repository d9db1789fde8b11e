"""Words of the command line become the recipe that is meant, or a message that says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from auditsvc.cli.prune import DEFAULT_LADDERS, RecipeData, ladders_of, recipe_file, recipe_of, recovery_of, target_of
from auditsvc.datasets.readers import DatasetReaders
from auditsvc.errors import InvalidInput
from auditsvc.pruning import METHODS
from auditsvc.records import Recipe
from tests.cli.in_process import command
from tests.cli.test_bad_input import models, refused
from tests.services.line import data_in

__all__ = ["models"]


@pytest.fixture
def data(tmp_path: Path) -> RecipeData:
    return RecipeData(DatasetReaders().open, (data_in(tmp_path / "own", 8), data_in(tmp_path / "other", 8, seed=2)))


def test_recovery_names_its_own_data_by_digest(data: RecipeData, tmp_path: Path) -> None:
    own, other = (item.ref.digest for item in data.sets)
    assert data.own == own
    found = recovery_of(["batch-norm", f"distillation:epochs=3,rate=0.03,flip=true,data={tmp_path / 'other'}"], data)
    assert found == {"batch-norm": {}, "distillation": {"epochs": 3, "rate": 0.03, "flip": True, "data": other}}


@pytest.mark.parametrize("words", ["distillation:epochs", "fine-tune:=3,"])
def test_words_that_are_no_recovery_are_refused(words: str, data: RecipeData) -> None:
    with pytest.raises(InvalidInput):
        from auditsvc.pruning import recovery_of as read

        read(Recipe(method="none", targets={}, recovery=recovery_of([words], data)))


@pytest.mark.parametrize("text", ["sparsity", "sparsity=half"])
def test_a_target_needs_a_number(text: str) -> None:
    with pytest.raises(InvalidInput):
        recipe_of({"method": "magnitude-global", "targets": dict([target_of(text)])})


def test_a_recipe_is_read_back_from_the_record_that_names_it(tmp_path: Path) -> None:
    recipe = Recipe(method="n-m", targets={"keep": 2, "of": 4}, seed=3, number_format="int8")
    (tmp_path / "recipe.json").write_bytes(recipe.canonical())
    assert recipe_file(tmp_path / "recipe.json") == recipe
    (tmp_path / "recipe.json").write_text("[]")
    for name in ("recipe.json", "none.json"):
        with pytest.raises(InvalidInput):
            recipe_file(tmp_path / name)


def test_a_ladder_rises_along_the_target_with_several_numbers() -> None:
    (found,) = ladders_of(["structured-l1:macs=3,1.5;round_to=4"], {"seed": 5})
    assert [recipe.targets for recipe in found.recipes] == [{"macs": 1.5, "round_to": 4}, {"macs": 3, "round_to": 4}]
    assert {recipe.seed for recipe in found.recipes} == {5}
    assert {found.name for found in ladders_of([], {})} == {words.partition(":")[0] for words in DEFAULT_LADDERS}
    assert {found.name for found in ladders_of([], {})} <= set(METHODS)


@pytest.mark.parametrize("words", ["structured-l1", "structured-l1:macs=2", "n-m:keep=1,2;of=4,8", "n-m:keep=one,two"])
def test_words_that_are_no_ladder_are_refused(words: str) -> None:
    with pytest.raises(InvalidInput):
        ladders_of([words], {})


def prune(models, tmp_path: Path, *more: object):
    options = ("--model", "m", "--source", "s", "--licence", "l", "--as", "sue", "--calibration", models["data"])
    return command("prune", "--store", tmp_path / "store", *options, "--parent", models["parent"], *more)


def test_prune_tells_the_version_and_the_card(models, tmp_path: Path) -> None:
    done = prune(models, tmp_path, "--target", "sparsity=0.5", "--format", "float16", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["model"], told["version"], told["submitter"]) == ("m", "2", "sue")
    assert {"parameters", "nonzero", "macs", "bytes_dense", "bytes_compressed"} == set(told["card"])
    assert told["timing"]["median_ms"] > 0 and told["timing"]["parent_median_ms"] > 0


def test_a_sweep_without_images_to_audit_is_refused(models, tmp_path: Path) -> None:
    refused(prune(models, tmp_path, "--sweep"), 2, "--audited")


def test_a_misspelt_method_names_the_known_ones(models, tmp_path: Path) -> None:
    refused(prune(models, tmp_path, "--method", "magic", "--target", "macs=2"), 2, "magic", "structured-l1")
