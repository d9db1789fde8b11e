"""Checks: one file, one check.

Every concrete ``Check`` in a module of this package is registered; installed packages add theirs in the entry-point
group ``auditsvc.checks``.  A check that does not import stops the service: a gate that silently lost a check would
approve what it no longer measures.
"""

from __future__ import annotations

from pydantic import ValidationError

from auditsvc.errors import InvalidInput
from auditsvc.evaluation import Check
from auditsvc.plugins import Registry, classes_in, concrete
from auditsvc.records import CheckSpec, faults_of

CHECKS: Registry[type[Check]] = Registry(
    "auditsvc.checks",
    lambda: ((check.id, check) for check in classes_in(__name__, Check)),  # type: ignore[type-abstract]
    accepts=concrete(Check),
    id_of=lambda check: check.id,
)


def all_checks() -> dict[str, type[Check]]:
    """Every check by its id.

    Raises:
        Unavailable: a plug-in that can't be loaded, or two checks with one id.
    """
    return dict(CHECKS.by_id)


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
