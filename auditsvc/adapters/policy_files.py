"""Policies as YAML files.  Every fault is reported at once, each with its line.

A policy that is read here is complete: the parameters of its checks have their defaults filled in, so that the
digest pins them, and every reading that a rule names is one that its check declares.
"""

from __future__ import annotations

import contextlib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from auditsvc.checks import check_named
from auditsvc.errors import InvalidInput, InvalidPolicy, NotFound, Unavailable
from auditsvc.records import EACH, OVERALL, CheckSpec, Policy
from auditsvc.settings import shipped

Lines = dict[tuple[str | int, ...], int]


def read_policy(name_or_path: str) -> Policy:
    """A policy from a file, or a shipped one by name (``standard``).

    Raises:
        NotFound: no such file and no such shipped policy.
        InvalidPolicy: with every fault and its line.
    """
    path = _located(name_or_path)
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Unavailable(f"the policy {path} can't be read: {error}") from error
    return parse_policy(text, str(path))


def _located(name_or_path: str) -> Path:
    path = Path(name_or_path)
    if path.is_file():
        return path
    folder = shipped("policies") / "gates"
    candidate = folder / f"{name_or_path}.yaml"
    if "/" not in name_or_path and candidate.is_file():
        return candidate
    known = ", ".join(sorted(item.stem for item in folder.glob("*.yaml")))
    raise NotFound(f"no policy file {name_or_path!r}; give a path, or one of the shipped ones: {known}")


def parse_policy(text: str, origin: str) -> Policy:
    """A policy from its text; ``origin`` names it in messages."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        fields = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidPolicy(f"{origin} is not YAML", [str(error).replace("\n", " ")]) from error
    if not isinstance(node, yaml.MappingNode) or not isinstance(fields, dict):
        raise InvalidPolicy(f"{origin} is empty or not a mapping; a policy needs policy, version, checks and rules")
    lines = _lines(node, ())
    faults = _repeated_keys(node)
    try:
        policy = Policy.model_validate(fields)
    except ValidationError as error:
        faults += [(_line(lines, fault["loc"]), f"{_path(fault['loc'])}{fault['msg']}") for fault in error.errors()]
        _complete_checks(_readable_checks(fields), lines, faults)
        raise _refused(origin, faults) from error
    checks = _complete_checks(policy.checks, lines, faults)
    faults += _faults_of_rules(policy, checks, lines)
    if faults:
        raise _refused(origin, faults)
    return policy.model_copy(update={"checks": checks})


def _refused(origin: str, faults: list[tuple[int, str]]) -> InvalidPolicy:
    return InvalidPolicy(
        f"the policy {origin} can't be used", [f"line {line}: {text}" for line, text in sorted(set(faults))]
    )


def _lines(node: yaml.Node, place: tuple[str | int, ...]) -> Lines:
    """The line of every part of the document, by its path."""
    lines: Lines = {place: node.start_mark.line + 1}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            lines |= _lines(value, (*place, key.value)) | {(*place, key.value): key.start_mark.line + 1}
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            lines |= _lines(item, (*place, number))
    return lines


def _repeated_keys(node: yaml.Node) -> list[tuple[int, str]]:
    """YAML lets a later key silently replace an earlier one; a rule must not vanish that way."""
    faults: list[tuple[int, str]] = []
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                faults.append((key.start_mark.line + 1, f"{key.value!r} is given twice"))
            seen.add(key.value)
            faults += _repeated_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            faults += _repeated_keys(item)
    return faults


def _line(lines: Lines, place: tuple[Any, ...]) -> int:
    while place not in lines:
        place = place[:-1]
    return lines[place]


def _path(place: tuple[Any, ...]) -> str:
    return f"{'.'.join(str(part) for part in place)}: " if place else ""


def _readable_checks(fields: dict[str, Any]) -> dict[str, CheckSpec]:
    """The checks of a policy that is otherwise at fault, so that their own faults are reported with the rest."""
    found: dict[str, CheckSpec] = {}
    checks = fields.get("checks")
    for name, spec in checks.items() if isinstance(checks, dict) else ():
        with contextlib.suppress(ValidationError):
            found[str(name)] = CheckSpec.model_validate(spec)
    return found


def _complete_checks(checks: dict[str, CheckSpec], lines: Lines, faults: list[tuple[int, str]]) -> dict[str, CheckSpec]:
    """Every check that can be run, with its parameters in full; the others' faults are added to ``faults``."""
    complete: dict[str, CheckSpec] = {}
    for name, spec in checks.items():
        try:
            complete[name] = spec.model_copy(update={"parameters": check_named(name, spec).parameters()})
        except InvalidInput as error:
            reasons = error.reasons or (str(error),)
            faults += [(_line(lines, ("checks", name)), f"checks.{name}: {reason}") for reason in reasons]
    return complete


def _faults_of_rules(policy: Policy, checks: dict[str, CheckSpec], lines: Lines) -> list[tuple[int, str]]:
    """Rules that name a check the policy does not run, or a metric that the check does not give."""
    faults: list[tuple[int, str]] = []
    for number, rule in enumerate(policy.rules):
        line = _line(lines, ("rules", number, "reading"))
        if rule.check not in policy.checks:
            known = ", ".join(policy.checks) or "none"
            faults.append((line, f"rule {rule.rule}: the policy runs no check {rule.check!r}; it runs {known}"))
            continue
        if rule.check not in checks:
            continue
        metrics = check_named(rule.check, checks[rule.check]).metrics()
        if not any(fnmatchcase(metric, rule.metric) for metric in metrics):
            known = ", ".join(metrics)
            faults.append((line, f"rule {rule.rule}: {rule.check} gives no {rule.metric!r}; it gives {known}"))
    return faults


def faults_of_slices(policy: Policy, slices: tuple[str, ...]) -> tuple[str, ...]:
    """Slices that a rule names and the data set does not have: they could only ever be unknown."""
    faults = []
    for rule in policy.rules:
        patterns = (rule.slices,) if isinstance(rule.slices, str) else rule.slices
        faults += [
            f"rule {rule.rule}: the data set has no slice {pattern!r}; it has {', '.join(slices)}"
            for pattern in patterns
            if pattern not in (EACH, OVERALL) and not any(fnmatchcase(name, pattern) for name in slices)
        ]
    return tuple(faults)
