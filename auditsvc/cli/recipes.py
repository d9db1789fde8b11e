"""Recipes and ladders from the words of the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditsvc.errors import InvalidInput
from auditsvc.records import Recipe, faults_of

if TYPE_CHECKING:
    from auditsvc.measuring import Dataset
    from auditsvc.pruning import Ladder

DEFAULT_LADDERS = (
    "structured-l1:macs=1.25,1.5,2,2.5,3,4,6,8",
    "magnitude-global:sparsity=0.3,0.5,0.6,0.7,0.8,0.9,0.95",
)
"""What a sweep tries if nobody says otherwise: what brings speed first, then what only brings small files."""


@dataclass
class RecipeData:
    """The data sets that a recipe sees, opened once each; the first one given is the recipe's own."""

    opener: Callable[[Path], Dataset]
    given: Sequence[Path] = ()
    opened: dict[Path, Dataset] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Open what was given."""
        for path in self.given:
            self.open(path)

    def open(self, path: Path) -> Dataset:
        """The data set of this folder."""
        if path not in self.opened:
            self.opened[path] = self.opener(path)
        return self.opened[path]

    @property
    def sets(self) -> tuple[Dataset, ...]:
        """All that were opened."""
        return tuple(self.opened.values())

    @property
    def own(self) -> str | None:
        """The digest of the recipe's own data set."""
        return self.open(self.given[0]).ref.digest if self.given else None


def recipe_of(fields: dict[str, Any]) -> Recipe:
    """A recipe of these fields.

    Raises:
        InvalidInput: with every fault.
    """
    from pydantic import ValidationError

    try:
        return Recipe.model_validate(fields)
    except ValidationError as error:
        raise InvalidInput("this is no recipe", faults_of(error)) from error


def recipe_file(path: Path) -> Recipe:
    """A recipe from a JSON file: the record as ``auditsvc prune --json`` and reports show it, ``kind`` or not.

    Raises:
        InvalidInput: no such file, or no recipe in it.
    """
    try:
        fields = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} can't be read as JSON: {error}") from error
    if not isinstance(fields, dict):
        raise InvalidInput(f"{path} holds no JSON object")
    return recipe_of({name: value for name, value in fields.items() if name != "kind"})


def target_of(text: str) -> tuple[str, float]:
    """``NAME=NUMBER``."""
    name, sign, number = text.partition("=")
    try:
        return name, float(number) if sign else float("nan")
    except ValueError as error:
        raise InvalidInput(f"--target takes NAME=NUMBER, not {text!r}") from error


def recovery_of(texts: Sequence[str], data: RecipeData) -> dict[str, Any]:
    """``batch-norm``, ``distillation:epochs=3,rate=0.03``, ``fine-tune:epochs=1,data=FOLDER``: what was won back how.

    Raises:
        InvalidInput: words that are no recovery.
    """
    found: dict[str, Any] = {}
    for text in texts:
        kind, _, rest = text.partition(":")
        numbers: dict[str, Any] = {}
        for part in filter(None, rest.split(",")):
            name, sign, value = part.partition("=")
            if not sign:
                raise InvalidInput(f"--recover takes KIND:NAME=VALUE,NAME=VALUE, not {text!r}")
            numbers[name] = data.open(Path(value)).ref.digest if name == "data" else _plain(value)
        found[kind] = numbers
    return found


def _plain(text: str) -> Any:
    """A number or truth value where it is one, else the words."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def ladders_of(texts: Sequence[str], fields: dict[str, Any]) -> tuple[Ladder, ...]:
    """``structured-l1:macs=1.5,2,3;round_to=4``: the target with several numbers is the one that rises.

    ``fields`` are the other fields of every recipe.

    Raises:
        InvalidInput: words that are no ladder.
    """
    return tuple(_ladder(text, fields) for text in texts or DEFAULT_LADDERS)


def _ladder(text: str, fields: dict[str, Any]) -> Ladder:
    from auditsvc.pruning import ladder

    method, _, rest = text.partition(":")
    try:
        targets = {
            name: [float(number) for number in numbers.split(",")]
            for name, numbers in (part.split("=") for part in rest.split(";"))
        }
    except ValueError as error:
        raise InvalidInput(f"--ladder takes METHOD:TARGET=A,B,C;OTHER=N, not {text!r}") from error
    rising = [name for name, numbers in targets.items() if len(numbers) > 1]
    if len(rising) != 1:
        raise InvalidInput(f"one target of the ladder {text!r} needs several numbers; {len(rising)} have them")
    fixed = {name: numbers[0] for name, numbers in targets.items() if name != rising[0]}
    return ladder(method, rising[0], targets[rising[0]], **fixed, **fields)
