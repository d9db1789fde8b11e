"""One file, one check.  Every module of this package that defines a ``Check`` is found here.

A check that does not import stops the service: a gate that quietly lost a check would approve what it no
longer looks at.  Two checks with one id are an error for the same reason.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from inspect import isabstract

from pydantic import ValidationError

from auditsvc.errors import InvalidInput
from auditsvc.evaluation import Check
from auditsvc.records import CheckSpec, faults_of


@cache
def all_checks() -> dict[str, type[Check]]:
    """Every check by its id."""
    found: dict[str, type[Check]] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for item in vars(module).values():
            if (
                isinstance(item, type)
                and issubclass(item, Check)
                and not isabstract(item)
                and item.__module__ == module.__name__
            ):
                if item.id in found:
                    raise InvalidInput(
                        f"two checks have the id {item.id!r}: {found[item.id].__name__} and {item.__name__}"
                    )
                found[item.id] = item
    return found


def check_named(name: str, spec: CheckSpec) -> Check:
    """The check that a policy names, with its parameters.

    Raises:
        InvalidInput: unknown id, another version than the code has, or parameters that do not fit.
    """
    kind = all_checks().get(name)
    if kind is None:
        raise InvalidInput(f"no check named {name!r}; known: {', '.join(sorted(all_checks()))}")
    if kind.version != spec.version:
        raise InvalidInput(
            f"the policy pins {name} at version {spec.version}; this code measures version {kind.version}"
        )
    try:
        return kind(**spec.parameters)
    except ValidationError as error:
        raise InvalidInput(f"parameters of {name} that do not fit", faults_of(error)) from error
