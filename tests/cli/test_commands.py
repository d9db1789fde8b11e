"""Every command is in a section of the help text and has an example that works; the short ones say what they found."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from auditsvc import __version__
from auditsvc.cli.app import COMMANDS, app
from tests.cli.in_process import command

EXAMPLES = [(name, line) for section in COMMANDS.values() for name, (_, line) in section.items()]


def test_the_version_is_shown() -> None:
    assert command("--version").stdout == f"auditsvc {__version__}\n"


def test_the_help_text_lists_every_command_once() -> None:
    shown = command("--help").stdout
    assert set(get_command(app).commands) == {name for name, _ in EXAMPLES}  # type: ignore[attr-defined]
    assert all(title in shown for title in COMMANDS)


@pytest.mark.parametrize(("name", "line"), EXAMPLES)
def test_an_example_names_commands_and_options_that_exist(name: str, line: str) -> None:
    words = shlex.split(line)
    found = get_command(app)
    assert words[:2] == ["auditsvc", name]
    for word in words[1:]:
        if not isinstance(found, typer.core.TyperGroup) or word not in found.commands:
            break
        found = found.commands[word]
    known = {option for parameter in found.params for option in parameter.opts} | {"--help"}
    assert {word for word in words if word.startswith("--")} <= known
    required = [one for one in found.params if one.required and one.param_type_name == "option"]
    assert "--help" in words or all(set(one.opts) & set(words) for one in required)


def test_without_a_store_init_is_named_and_nothing_is_made(tmp_path: Path) -> None:
    for words in (("status",), ("list",), ("show", "net", "1")):
        found = command(*words, cwd=tmp_path)
        assert found.returncode == 4 and "run `auditsvc init`" in found.stderr
    assert list(tmp_path.iterdir()) == []
