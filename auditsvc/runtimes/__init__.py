"""Runtimes: what answers images from a deployable file, one module each.

A model that is exact in torch may answer otherwise where it is deployed: another kernel rounds, saturates or
overflows, another layout swaps channels, a default lowers the precision.  So a file is measured in the runtime that
will run it.  Each runtime is an extra (``pip install "auditsvc[openvino]"``) and is imported when a file is opened, in
a clean process (``importing.runtime_session``); one that is missing makes its readings unmeasured.  Installed packages
add runtimes in the entry-point group ``auditsvc.runtimes``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from auditsvc.errors import InvalidInput
from auditsvc.plugins import Registry, classes_in, concrete
from auditsvc.runtimes.runtime import JOIN, Port, Program, Runtime, cpu_flags

RUNTIMES: Registry[type[Runtime]] = Registry(
    "auditsvc.runtimes",
    lambda: ((one.id, one) for one in classes_in(__name__, Runtime)),  # type: ignore[type-abstract]
    accepts=concrete(Runtime),
    id_of=lambda one: one.id,
)


def run_named(text: str) -> tuple[type[Runtime], str]:
    """The runtime and the precision of ``openvino/bfloat16``, or of ``litert/int8@pixel-8`` on a device.

    Raises:
        InvalidInput: an unknown runtime, or a precision that it does not have; with those that are known.
    """
    name, _, precision = re.sub("@[a-z0-9][a-z0-9._-]*$", "", text).partition("/")
    found = RUNTIMES.by_id.get(name)
    if found is None or precision not in found.precisions:
        known = [f"{one.id}/{each}" for one in RUNTIMES.by_id.values() for each in one.precisions]
        raise InvalidInput(f"no run {text!r}; known: {', '.join(known)}")
    return found, precision


def machine_words(runs: Iterable[str]) -> str:
    """What the readings of these runs depend on: the flags of the CPU, the versions of the runtimes, the threads."""
    versions = {f"{one.distribution} {one.version()}" for one in (run_named(run)[0] for run in runs)}
    return "; ".join((cpu_flags(), *sorted(versions), "1 thread"))
