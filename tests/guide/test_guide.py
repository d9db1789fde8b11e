"""The README and the guide: short, every link leads somewhere, every command and setting exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from auditsvc import records
from auditsvc.cli.app import app
from auditsvc.settings import Settings

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "auditsvc" / "guide"
PAGES = [ROOT / "README.md", *sorted((ROOT / ".github").glob("*.md")), *sorted(GUIDE.rglob("*.md"))]
COMMAND = re.compile(r"^(?: {4}|\$ )(?:[A-Z_]+=\S+ )*(auditsvc(?:-verify)? .*)$", re.MULTILINE)


def commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        text = re.sub(r" \\\n\s*", " ", page.read_text())
        for line in COMMAND.findall(text):
            for part in re.split(r" && | \| ", line.partition("  #")[0]):
                if part.startswith("auditsvc ") and "..." not in part:
                    yield page.relative_to(ROOT).as_posix(), part


def test_the_readme_is_two_pages() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 8192


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert broken == []


@pytest.mark.parametrize(("page", "line"), sorted(set(commands())))
def test_every_command_and_option_exists(page: str, line: str) -> None:
    command: Any = get_command(app)
    words = shlex.split(line, comments=True)[1:]
    options = [word.partition("=")[0] for word in words if word.startswith("--")]
    while hasattr(command, "commands"):
        name = words.pop(0)
        assert name in command.commands, f"{page}: {line}: there is no command {name}"
        command = command.commands[name]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert set(options) <= known | {"--help"}, f"{page}: {line}"


def test_every_setting_that_is_named_exists() -> None:
    settings = {name.upper() for name in Settings.model_fields}
    named = {name for page in PAGES for name in re.findall(r"AUDITSVC_([A-Z_]+[A-Z])(?![A-Z_])", page.read_text())}
    assert named <= settings


def test_the_guide_lists_every_event() -> None:
    text = (GUIDE / "http-api.md").read_text()
    events = {item.event for item in vars(records).values() if isinstance(item, type) and hasattr(item, "event")}
    assert {event for event in events if isinstance(event, str) and f"`{event}`" not in text} == set()


def test_every_decision_is_listed() -> None:
    index = (GUIDE / "decisions" / "index.md").read_text()
    files = {path.name for path in (GUIDE / "decisions").glob("0*.md")}
    assert set(re.findall(r"\((\d{4}[^)]+)\)", index)) == files
    for name in files:
        text = (GUIDE / "decisions" / name).read_text()
        assert all(f"## {part}" in text for part in ("Context", "Decision", "Cost")), name
