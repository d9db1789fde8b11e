"""Which channels of which layers are the same channels: what a permutation has to change together.

A thief can renumber the channels of a network, scale them, or drop some, without any training; the
function stays and every weight moves.  To undo that, one must know that the filters of one layer are the
inputs of others.  ``tracing`` finds out; here is what it found: plain data (``Wiring.as_json``), kept with
the unmarked weights, so that a suspect can be aligned from tensors alone.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Self

from auditsvc.errors import InvalidInput


@dataclass(frozen=True)
class Span:
    """Channels of one tensor: a whole space of channels, each ``repeat`` times in a row.

    ``space`` is shared by all tensors whose channels have the same order; ``scale`` by those whose channels
    also have the same magnitude (a depthwise filter keeps the order and not the magnitude).
    """

    space: int
    scale: int
    repeat: int = 1


@dataclass(frozen=True)
class Wire:
    """A layer with weights: what it reads and what it writes.  Depthwise layers read and write one space."""

    weight: str
    reads: tuple[Span, ...]
    writes: Span
    depthwise: bool


@dataclass(frozen=True)
class Norm:
    """A normalisation with running statistics between two magnitudes of the same channels."""

    gain: str
    variance: str
    epsilon: float
    reads: Span
    writes: Span


@dataclass(frozen=True)
class Wiring:
    """Layers and normalisations in the order in which they run; size and freedom of every space."""

    steps: tuple[Wire | Norm, ...]
    sizes: dict[int, int]
    pinned: frozenset[int]

    def as_json(self) -> bytes:
        """The wiring as JSON, to be kept beside the unmarked weights."""
        steps = [{"kind": type(step).__name__, **asdict(step)} for step in self.steps]
        sizes = sorted(self.sizes.items())
        return json.dumps({"steps": steps, "sizes": sizes, "pinned": sorted(self.pinned)}).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """The wiring back from its JSON.

        Raises:
            InvalidInput: something else.
        """
        try:
            fields = json.loads(data)
            steps = tuple(_step(step) for step in fields["steps"])
            return cls(steps, {int(k): int(v) for k, v in fields["sizes"]}, frozenset(fields["pinned"]))
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"not the wiring of a model: {error}") from error


def _step(fields: dict[str, Any]) -> Wire | Norm:
    kind = fields.pop("kind")
    writes = Span(**fields.pop("writes"))
    if kind == "Norm":
        return Norm(reads=Span(**fields.pop("reads")), writes=writes, **fields)
    return Wire(reads=tuple(Span(**span) for span in fields.pop("reads")), writes=writes, **fields)
