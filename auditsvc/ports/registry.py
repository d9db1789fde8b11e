"""The model registry, as a protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from auditsvc.records import Candidate, Parent


@dataclass(frozen=True)
class Placed:
    """What a registered model's names point at: the version of every alias, and of every stage."""

    aliases: Mapping[str, str] = field(default_factory=dict)
    stages: Mapping[str, str] = field(default_factory=dict)


class Registry(Protocol):
    """The model registry: versions, lineage, tags, and the alias that says "this one"."""

    def register_parent(self, parent: Parent, folder: Path) -> str:
        """Register the parent; returns its version.  Registering the same digest again returns the same version."""
        ...

    def register_candidate(self, candidate: Candidate, folder: Path, parent_version: str) -> str:
        """Register a candidate with lineage to its parent; idempotent by digest; returns its version."""
        ...

    def tag(self, model: str, version: str, tags: dict[str, str]) -> None:
        """Set tags on a version.  Tags are hints for readers, never evidence."""
        ...

    def checkout(self, model: str, version: str, folder: Path) -> Path:
        """Copy the files of a version into this folder; the folder inside it that holds them.  Raises ``NotFound``."""
        ...

    def move_alias(self, model: str, alias: str, version: str) -> None:
        """Point the alias at this version."""
        ...

    def drop_alias(self, model: str, alias: str) -> None:
        """Remove the alias, if it is there."""
        ...

    def aliased(self, model: str, alias: str) -> str | None:
        """The version that carries the alias, or None: an alias that nobody carries is an ordinary state."""
        ...

    def placed(self) -> dict[str, Placed]:
        """Where the aliases and stages of all models are, whoever put them there; models without any are left out."""
        ...

    def set_stage(self, model: str, version: str, stage: str | None) -> None:
        """Put a version into a stage, or out of all of them.  Raises ``NotFound``."""
        ...
