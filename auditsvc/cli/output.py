"""What the commands share: options, the context of the store, and output as text or as one JSON object."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditsvc.errors import AuditError, InvalidInput

if TYPE_CHECKING:
    from pydantic import BaseModel

    from auditsvc.ports import Context
    from auditsvc.settings import Settings


Store = Annotated[
    Path | None,
    typer.Option(help="The store's folder. [default: $AUDITSVC_STORE or ./auditsvc-store]", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Model = Annotated[str, typer.Argument(help="The model's name in the registry.")]
Version = Annotated[str, typer.Argument(help="The version in the registry.")]
PolicyName = Annotated[str, typer.Option("--policy", help="A policy file, or a shipped one by name.")]
ModelName = Annotated[str, typer.Option("--model", help="The model's name in the registry.")]
Source = Annotated[str, typer.Option(help="Where the parent comes from.")]
Licence = Annotated[str, typer.Option(help="The parent's licence.")]
ExpectAccuracy = Annotated[
    float | None,
    typer.Option(
        "--expect-accuracy",
        min=0,
        max=1,
        help="The parent's accuracy as its owner states it (0..1); the audit stops if it differs.",
    ),
]
Person = Annotated[str, typer.Option("--as", help="Your name, as the ledger records it.")]


def settings_for(store: Path | None) -> Settings:
    """The settings from the environment; a store on the command line wins.

    Raises:
        InvalidInput: lists every setting that can't be used.
    """
    from auditsvc.settings import Settings  # not in the verifier's distribution

    return Settings(store=store) if store else Settings()


def context_for(store: Path | None, *, create: bool = False, quiet: bool = True) -> Context:
    """The ports of the project that AUDITSVC_PROJECT names; see ``bootstrap.open_context``.

    Args:
        store: The store's folder, if the command line names one.
        create: Make the store if there is none: for commands that submit, measure or sign.
        quiet: Show no progress on the terminal, as with ``--json``.

    Raises:
        Unavailable: there is no store.
    """
    from auditsvc.bootstrap import open_context

    settings = settings_for(store)
    if quiet:
        return open_context(settings, settings.project, create=create)
    from auditsvc.adapters.progress_bar import ConsoleProgress

    return open_context(settings, settings.project, progress=ConsoleProgress(), create=create)


def wants_json() -> bool:
    """Whether this call asked for JSON; taken from the arguments, as an error may come before they are parsed."""
    return "--json" in sys.argv


def print_json(value: BaseModel | dict[str, Any]) -> None:
    """One JSON object on standard output."""
    plain = value if isinstance(value, dict) else value.model_dump(mode="json", exclude_none=True)
    print(json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False))


def print_result(json: bool, value: BaseModel | dict[str, Any], *lines: str) -> None:
    """The result of a command: one JSON object with ``--json``, else these lines."""
    if json:
        print_json(value)
    else:
        print("\n".join(lines))


def command_group(help: str) -> typer.Typer:
    """A group of commands, which prints its help when it is called alone."""
    return typer.Typer(help=help, no_args_is_help=True, rich_markup_mode=None)


def print_lines(lines: Iterable[str], indent: int = 0) -> None:
    """Lines of text; on a terminal a long one is wrapped, its further lines indented."""
    for line in lines:
        if not sys.stdout.isatty():
            print(line)
            continue
        width = max(40, shutil.get_terminal_size().columns)
        print("\n".join(textwrap.wrap(line, width, subsequent_indent=" " * indent, break_long_words=False)))


def fail(error: AuditError) -> int:
    """Say what went wrong, for people on standard error, for programs on standard output; the exit code."""
    if wants_json():
        reasons = list(error.reasons) if isinstance(error, InvalidInput) else []
        print_json({"error": {"code": error.code, "message": str(error).split("\n")[0], "reasons": reasons}})
    else:
        print(f"auditsvc: {error}", file=sys.stderr)
    return error.exit_code
