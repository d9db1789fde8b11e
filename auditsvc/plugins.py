"""Plug-ins: checks, tasks, data set readers and architectures by name, built in or from installed packages.

A package adds its own through an entry-point group of its ``pyproject.toml``; the name of the entry point is the id
by which policies, cards and data sets refer to it::

    [project.entry-points."auditsvc.checks"]
    rust-spots = "acme_vision.rust:RustSpots"

A registry loads its whole group once, when it is first asked.  Nothing is skipped: a gate that silently lost a check
would approve what it no longer measures.  An entry point that can't be imported, that is not what its group holds, or
that takes an id in use is therefore an error that names the distribution, the entry point and the reason.

Reference: the entry points specification, https://packaging.python.org/en/latest/specifications/entry-points/.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from inspect import isabstract
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Generic, TypeVar

from auditsvc.errors import Unavailable

T = TypeVar("T")


class Registry(Generic[T]):
    """Everything of one kind by id: what the package itself has, and the plug-ins of one entry-point group.

    ``builtin`` yields the package's own with their ids; ``accepts`` says whether an object that an entry point names
    belongs here; ``id_of`` is the id that the object itself declares (None: the entry point's name alone counts).
    """

    def __init__(
        self,
        group: str,
        builtin: Callable[[], Iterator[tuple[str, T]]],
        *,
        accepts: Callable[[object], bool],
        id_of: Callable[[T], str] | None = None,
    ) -> None:
        self.group, self._builtin, self._accepts, self._id_of = group, builtin, accepts, id_of

    @cached_property
    def by_id(self) -> Mapping[str, T]:
        """Every entry by its id, sorted; loaded on first use.

        Raises:
            Unavailable: a plug-in that can't be loaded, or two entries with one id.
        """
        found: dict[str, T] = {}
        origin: dict[str, str] = {}
        for name, item, source in self._entries():
            if name in found:
                raise Unavailable(f"two plug-ins of {self.group} have the id {name!r}: {origin[name]}, and {source}; "
                                  "uninstall or rename one of them")  # fmt: skip
            found[name], origin[name] = item, source
        return MappingProxyType(dict(sorted(found.items())))

    def _entries(self) -> Iterator[tuple[str, T, str]]:
        """Id, entry and origin of each."""
        for name, item in self._builtin():
            yield name, item, f"{getattr(item, '__module__', '')}.{getattr(item, '__qualname__', name)} of auditsvc"
        for point in installed(self.group):
            yield point.name, self._load(point), origin_of(point)

    def _load(self, point: EntryPoint) -> T:
        with _Loading(point):
            item = point.load()
        if not self._accepts(item):
            raise Unavailable(f"{origin_of(point)} can't be used in {self.group}: {item!r} is not of the kind that "
                              "this group holds; correct it or uninstall the distribution")  # fmt: skip
        declared = point.name if self._id_of is None else self._id_of(item)
        if declared != point.name:
            raise Unavailable(
                f"{origin_of(point)} can't be used in {self.group}: its id is {declared!r}; name the entry point so"
            )
        loaded: T = item
        return loaded


class _Loading:
    """Turns any exception of a plug-in's import into one that names the plug-in; nothing is suppressed."""

    def __init__(self, point: EntryPoint) -> None:
        self._point = point

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(error, Exception):
            reason = f"{type(error).__name__}: {error}"
            raise Unavailable(f"{origin_of(self._point)} can't be loaded for {self._point.group}: {reason}; correct it "
                              "or uninstall the distribution") from error  # fmt: skip


def installed(group: str) -> tuple[EntryPoint, ...]:
    """The entry points of a group, in an order that does not depend on ``sys.path``."""
    return tuple(sorted(entry_points(group=group), key=lambda point: (point.name, origin_of(point))))


def origin_of(point: EntryPoint) -> str:
    """``the entry point rust-spots = acme_vision.rust:RustSpots of acme-vision 1.2``."""
    owner = f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"
    return f"the entry point {point.name} = {point.value} of {owner}"


def source_of(point: EntryPoint) -> bytes:
    """The source of the module that an entry point names; its value where the module has no readable source."""
    with _Loading(point):
        spec = importlib.util.find_spec(point.module)
    path = Path(spec.origin) if spec and spec.origin else None
    return path.read_bytes() if path and path.is_file() else point.value.encode()


def modules_in(package: str) -> Iterator[object]:
    """Every module directly in a package, imported."""
    for info in pkgutil.iter_modules(importlib.import_module(package).__path__):
        yield importlib.import_module(f"{package}.{info.name}")


def classes_in(package: str, base: type[T]) -> Iterator[type[T]]:
    """Every concrete subclass of ``base`` that a module directly in ``package`` defines."""
    for module in modules_in(package):
        for item in vars(module).values():
            if concrete(base)(item) and item.__module__ == vars(module)["__name__"]:
                yield item


def concrete(base: type) -> Callable[[object], bool]:
    """Whether an object is a concrete subclass of ``base``: the ``accepts`` of a registry of classes."""
    return lambda item: isinstance(item, type) and issubclass(item, base) and not isabstract(item)
