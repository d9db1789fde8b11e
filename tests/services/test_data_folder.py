"""A data set of the service's data folder is in that folder with all its files."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from auditsvc.errors import InvalidDataset, NotFound
from auditsvc.ports import Context
from auditsvc.services.job_handlers import JobContext


@pytest.fixture
def context(tmp_path: Path) -> JobContext:
    (tmp_path / "secret").write_text("x")
    data = tmp_path / "data"
    (data / "faces" / "images").mkdir(parents=True)
    (data / "faces" / "images" / "a.png").write_bytes(b"x")
    (data / "shared").mkdir()
    (data / "shared" / "b.png").write_bytes(b"x")
    datasets = SimpleNamespace(open=lambda path: path)
    return JobContext(cast(Context, SimpleNamespace(datasets=datasets)), data)


def test_links_inside_the_folder_are_read(context: JobContext) -> None:
    (context.data / "faces" / "images" / "b.png").symlink_to(context.data / "shared" / "b.png")
    (context.data / "faces" / "more").symlink_to("../shared")
    assert cast(Path, context.dataset("faces")).name == "faces"


@pytest.mark.parametrize("target", ["../../../secret", "/etc/passwd", "/dev/zero", "nowhere", "../../.."])
def test_a_link_out_of_the_folder_is_refused(context: JobContext, target: str) -> None:
    (context.data / "faces" / "images" / "b.png").symlink_to(target)
    with pytest.raises(InvalidDataset, match=r"faces/images/b\.png"):
        context.dataset("faces")


def test_a_pipe_is_refused(context: JobContext) -> None:
    os.mkfifo(context.data / "faces" / "images" / "b.png")
    with pytest.raises(InvalidDataset, match=r"faces/images/b\.png"):
        context.dataset("faces")


@pytest.mark.parametrize("name", ["..", "../secret", "/etc", "none"])
def test_a_name_out_of_the_folder_is_not_found(context: JobContext, name: str) -> None:
    with pytest.raises(NotFound):
        context.dataset(name)
