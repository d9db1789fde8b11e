"""A parent may be a folder, an ONNX file, or a registered version of either; a pickle is none of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from auditsvc.errors import InvalidInput, NotFound, Refused
from auditsvc.models import load_model
from auditsvc.records.architecture import ModelDescription
from auditsvc.runtimes.onnx_export import onnx_bytes
from auditsvc.services.candidates import register_parent
from auditsvc.services.model_store import resolve_model, said_by_parent
from tests.services.line import CARD, FACTS, ports_in

SAID = ModelDescription(classes=CARD.classes, input=CARD.input)
IMAGES = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def graph(folders: dict[str, Path], tmp_path: Path) -> Path:
    (tmp_path / "onnx").mkdir()
    file = tmp_path / "onnx" / "net.onnx"
    file.write_bytes(onnx_bytes(load_model(folders["parent"]), IMAGES))
    (tmp_path / "onnx" / "LICENSE").write_text("Apache-2.0\n")
    return file


def test_a_folder_is_used_where_it_lies(folders: dict[str, Path], tmp_path: Path) -> None:
    with resolve_model(ports_in(tmp_path), str(folders["parent"])) as folder:
        assert folder == folders["parent"]


def test_an_onnx_file_becomes_a_model_folder_with_its_licence(
    graph: Path, folders: dict[str, Path], tmp_path: Path
) -> None:
    ctx = ports_in(tmp_path / "store")
    with resolve_model(ctx, str(graph), SAID) as folder:
        parent, _ = register_parent(ctx, folder, FACTS)
        assert torch.allclose(load_model(folder)(IMAGES), load_model(folders["parent"])(IMAGES), atol=1e-4)
    assert parent.architecture == "onnx_graph"
    assert {file.name for file in parent.files} == {"model.safetensors", "architecture.json", "LICENSE"}
    assert not folder.exists()


def test_an_onnx_file_is_not_guessed_at(graph: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(InvalidInput, match="does not name its classes"),
        resolve_model(ports_in(tmp_path), str(graph)),
    ):
        pass


@pytest.mark.parametrize("uri", ["models:/brightness/1", "models:/brightness@dense"])
def test_a_registered_version_is_fetched(folders: dict[str, Path], tmp_path: Path, uri: str) -> None:
    ctx = ports_in(tmp_path)
    register_parent(ctx, folders["parent"], FACTS)
    ctx.registry.move_alias("brightness", "dense", "1")
    with resolve_model(ctx, uri) as folder:
        assert torch.equal(load_model(folder)(IMAGES), load_model(folders["parent"])(IMAGES))


@pytest.mark.parametrize(
    ("uri", "error", "words"),
    [
        ("models:/brightness/7", NotFound, "brightness/7"),
        ("models:/brightness@gone", NotFound, "alias gone"),
        ("models:brightness", InvalidInput, "models:/NAME/VERSION"),
        ("models:/brightness/latest", InvalidInput, "models:/NAME/VERSION"),
    ],
)
def test_what_names_no_version_is_told(folders, tmp_path: Path, uri: str, error: type[Exception], words: str) -> None:
    ctx = ports_in(tmp_path)
    register_parent(ctx, folders["parent"], FACTS)
    with pytest.raises(error, match=words), resolve_model(ctx, uri):
        pass


def logged(folder: Path, content: object) -> Path:
    """A version as MLflow's pytorch flavour logs it."""
    (folder / "data").mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {pytorch: {}}\n")
    torch.save(content, folder / "data" / "model.pth")
    return folder


@pytest.mark.slow
def test_a_pickled_mlflow_model_is_refused_with_what_works(folders, tmp_path: Path) -> None:
    folder = logged(tmp_path / "logged", load_model(folders["parent"]).module)
    ctx = ports_in(tmp_path)
    with pytest.raises(Refused, match="can't be read") as caught, resolve_model(ctx, str(folder), SAID):
        pass
    assert any("torch.save(model.state_dict()" in reason for reason in caught.value.reasons)


def test_a_state_dict_of_mlflow_is_the_model_that_its_architecture_makes(folders, tmp_path: Path) -> None:
    ctx, own = ports_in(tmp_path), load_model(folders["parent"])
    parent, _ = register_parent(ctx, folders["parent"], FACTS)
    folder = logged(tmp_path / "logged", {f"module.{name}": value for name, value in own.module.state_dict().items()})
    with resolve_model(ctx, str(folder), *said_by_parent(ctx, parent)) as made:
        assert torch.equal(load_model(made)(IMAGES), own(IMAGES))
        assert load_model(made).card == own.card


def test_two_graphs_are_one_too_many(graph: Path, tmp_path: Path) -> None:
    shutil.copyfile(graph, graph.with_name("other.onnx"))
    with pytest.raises(Refused, match="one ONNX file"), resolve_model(ports_in(tmp_path), str(graph.parent), SAID):
        pass
