"""Read policies from YAML files, and back-test a policy on every candidate judged so far.

All faults of a file are reported at once, each with its line.  A policy that was read is complete: the parameters of
its checks have their defaults filled in, so that the digest pins them, and every metric that a rule names is declared
by its check.  A back-test measures and stores nothing.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from auditsvc.checks import check_named
from auditsvc.datasets import Dataset
from auditsvc.datasets.image_properties import PROPERTIES
from auditsvc.errors import InvalidInput, InvalidPolicy, NotFound, Unavailable
from auditsvc.evaluation import Check
from auditsvc.ports import View
from auditsvc.records import (
    EACH,
    OVERALL,
    CheckSpec,
    Metric,
    Policy,
    Rule,
    matches,
)
from auditsvc.resources import resource_dir
from auditsvc.services.power import with_policy_slices
from auditsvc.tasks import TASKS

Lines = dict[tuple[str | int, ...], int]

DEEPEST = 50
"""Lists and mappings in each other that a policy may have."""


def resolve_policy(name: str, ledger: View | None = None) -> Policy:
    """The policy of this name: a shipped one, a file (a path with ``/`` or ``.yaml``), or one of the ledger by digest.

    Raises:
        NotFound: there is none, or a digest was given without a ledger to look in.
        InvalidPolicy: with every fault of the file and its line.
    """
    if not name.startswith("sha256:"):
        return read_policy(name)
    if ledger is None:
        raise NotFound(f"the policy {name} is named by digest; give a file or a shipped policy here")
    return ledger.get(Policy, name)


def resolve_remote_policy(name: str, ledger: View) -> Policy:
    """The policy that a job or a request over HTTP names: a shipped one, or one of the ledger by digest; never a file.

    Raises:
        InvalidInput: it is a path.
        NotFound, InvalidPolicy: as ``resolve_policy`` says.
    """
    if _is_path(name):
        raise InvalidInput(f"name a shipped policy, or one of the ledger by its digest, and no file: {name}")
    return resolve_policy(name, ledger)


def _is_path(name: str) -> bool:
    return "/" in name or os.sep in name or name.endswith((".yaml", ".yml"))


def slice_dataset(policy: Policy, dataset: Dataset) -> Dataset:
    """The data set with the slices that the policy makes, which the policy's rules may name.

    Raises:
        InvalidInput: a rule names a slice that neither the data set nor the policy's ``slicing`` has.
    """
    sliced = with_policy_slices(policy, dataset)
    faults = slice_faults(policy, sliced.slices.names)
    if faults:
        raise InvalidInput(f"the policy {policy.policy} does not fit the data set {dataset.ref.name}", faults)
    return sliced


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
    """A path has a slash or ends in .yaml; anything else is the name of a shipped policy and never that of a file."""
    folder = resource_dir("policies") / "gates"
    is_path = _is_path(name_or_path)
    found = Path(name_or_path) if is_path else folder / f"{name_or_path}.yaml"
    if found.is_file():
        return found
    if is_path:
        raise NotFound(f"no policy file {name_or_path!r}")
    known = ", ".join(sorted(item.stem for item in folder.glob("*.yaml")))
    path = f"; the file of this name is ./{name_or_path}" if Path(name_or_path).is_file() else ""
    raise NotFound(f"no shipped policy {name_or_path!r}{path}; there are: {known}; a file needs a / or .yaml")


def parse_policy(text: str, origin: str) -> Policy:
    """A policy from its text; ``origin`` names it in messages."""
    try:
        _refuse_nesting(text, origin)
        _refuse_aliases(text, origin)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        fields = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # also a number or date that is none, a deep nesting
        raise InvalidPolicy(f"{origin} is not YAML", [str(error).replace("\n", " ")]) from error
    if not isinstance(node, yaml.MappingNode) or not isinstance(fields, dict):
        raise InvalidPolicy(f"{origin} is empty or not a mapping; a policy needs policy, version, checks and rules")
    lines = _lines(node, ())
    faults = _repeated_keys(node)
    try:
        policy = Policy.model_validate(fields)
    except ValidationError as error:
        faults += _faults_of_fields(error, lines)
        _complete_checks(_readable_checks(fields), str(fields.get("task", "any")), lines, faults)
        raise _refused(origin, faults) from error
    checks = _complete_checks(policy.checks, policy.task, lines, faults)
    if policy.task != "any" and policy.task not in TASKS.by_id:
        known = ", ".join(["any", *TASKS.by_id])
        faults.append((_line(lines, ("task",)), f"task: there is no task {policy.task!r}; there are: {known}"))
    faults += _faults_of_rules(policy, checks, lines)
    if faults:
        raise _refused(origin, faults)
    return policy.model_copy(update={"checks": checks})


def _refuse_nesting(text: str, origin: str) -> None:
    """Refuse text whose brackets are nested deeper than any policy's: reading it takes time quadratic in the depth."""
    depth = 0
    for found in re.finditer(r"[\[\]{}]|^(?:[ \t]*[-?:](?=[ \t]))+", text, re.MULTILINE):
        mark = found.group()
        depth = max(0, depth + (mark in "[{") - (mark in "]}"))
        if depth > DEEPEST or len(mark.split()) > DEEPEST:
            line = text.count("\n", 0, found.start()) + 1
            raise _refused(origin, [(line, f"more than {DEEPEST} lists or mappings in each other")])


def _refuse_aliases(text: str, origin: str) -> None:
    """Refuse YAML aliases: a rule defined elsewhere is easily misread, and nested aliases can expand without bound."""
    found = [token for token in yaml.scan(text, Loader=yaml.SafeLoader) if isinstance(token, yaml.AliasToken)]
    faults = [(token.start_mark.line + 1, f"the alias *{token.value}; write it out") for token in found]
    if faults:
        raise _refused(origin, faults)


def _faults_of_fields(error: ValidationError, lines: Lines) -> list[tuple[int, str]]:
    """The faults found by pydantic; an empty list is not reported if its items are at fault."""
    found = error.errors()
    inside = {fault["loc"][:depth] for fault in found for depth in range(len(fault["loc"]))}
    return [
        (_line(lines, fault["loc"]), f"{_path(fault['loc'])}{fault['msg']}{_meant(fault['type'], fault['loc'])}")
        for fault in found
        if not (fault["type"] == "too_short" and fault["loc"] in inside)
    ]


def _meant(kind: str, place: tuple[Any, ...]) -> str:
    """For an unknown field the one that was probably meant."""
    if kind != "extra_forbidden":
        return ""
    fields = CheckSpec.model_fields if place[0] == "checks" else Policy.model_fields
    fields = Rule.model_fields if place[0] == "rules" else fields
    return _nearest(str(place[-1]), fields)


def _nearest(word: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {found[0]!r}?" if found else ""


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


def _unfit(check: Check, task: str) -> tuple[str, ...]:
    """Why this check does not apply to the policy's task; for a policy of any task the audit decides."""
    return check.faults(task) if task in TASKS.by_id else ()


def _complete_checks(
    checks: dict[str, CheckSpec], task: str, lines: Lines, faults: list[tuple[int, str]]
) -> dict[str, CheckSpec]:
    """Every check that can be run, with its parameters in full; the others' faults are added to ``faults``."""
    complete: dict[str, CheckSpec] = {}
    for name, spec in checks.items():
        try:
            check = check_named(name, spec)
            faults += [(_line(lines, ("checks", name)), f"checks.{name}: {reason}") for reason in _unfit(check, task)]
            complete[name] = spec.model_copy(update={"parameters": check.parameters()})
        except InvalidInput as error:
            reasons = error.reasons or (str(error),)
            faults += [(_line(lines, ("checks", name)), f"checks.{name}: {reason}") for reason in reasons]
    return complete


def _faults_of_rules(policy: Policy, checks: dict[str, CheckSpec], lines: Lines) -> list[tuple[int, str]]:
    """Rules that can never be judged or never fail, checks without a rule, unknown image properties."""
    faults: list[tuple[int, str]] = []
    for number, rule in enumerate(policy.rules):
        line = _line(lines, ("rules", number, "reading"))
        if rule.check not in policy.checks:
            known = ", ".join(policy.checks) or "none"
            faults.append((line, f"rule {rule.rule}: the policy runs no check {rule.check!r}; it runs {known}"))
            continue
        if rule.check not in checks:
            continue
        metrics = {metric.id: metric for metric in check_named(rule.check, checks[rule.check]).metrics()}
        judged_by = [metric for name, metric in metrics.items() if matches(rule.metric, name)]
        if not judged_by:
            known = ", ".join(metrics)
            meant = _nearest(rule.metric, metrics)
            faults.append((line, f"rule {rule.rule}: {rule.check} gives no {rule.metric!r}{meant}; it gives {known}"))
        faults += [(line, f"rule {rule.rule}: {fault}") for fault in _vacuous_limits(rule, judged_by)]
    judged = {rule.check for rule in policy.rules}
    faults += [
        (_line(lines, ("checks", name)), f"checks.{name}: no rule uses it; add one, with severity: warn if it "
         "is only to be shown") for name in policy.checks if name not in judged
    ]  # fmt: skip
    for name in policy.slicing.image if policy.slicing else ():
        if name not in PROPERTIES:
            line = _line(lines, ("slicing", "image", name))
            faults.append((line, f"slicing.image: nothing measures {name!r}; there are {', '.join(PROPERTIES)}"))
    return faults


def _vacuous_limits(rule: Rule, metrics: Iterable[Metric]) -> Iterable[str]:
    """A limit at or beyond the end of the scale always holds: a percentage where a fraction was meant."""
    scales = {(-1.0 if metric.role == "loss" else 0.0, 1.0) for metric in metrics if _is_bounded(metric)}
    for lowest, highest in sorted(scales):
        if rule.at_most is not None and rule.at_most >= highest:
            yield f"at most {rule.at_most:g} always holds, {rule.metric} is never over {highest:g}; 0.05 is 5 points"
        if rule.at_least is not None and rule.at_least <= lowest:
            yield f"at least {rule.at_least:g} always holds, {rule.metric} is never under {lowest:g}"


def _is_bounded(metric: Metric) -> bool:
    """Whether the scale has two ends: shares of images, and losses of mean scores; an error rate may exceed 1."""
    return metric.kind == "proportion" or (
        metric.role == "loss" and metric.better == "lower" and metric.unit == "points"
    )


def slice_faults(policy: Policy, slices: tuple[str, ...]) -> tuple[str, ...]:
    """Slices that a rule names and the data set does not have: they could only ever be unknown."""
    return tuple(
        f"rule {rule.rule}: the data set has no slice {selector!r}{_nearest(selector, slices)}; "
        f"it has {', '.join(slices)}"
        for rule in policy.rules
        for selector in rule.selectors
        if selector not in (EACH, OVERALL) and not any(matches(selector, name) for name in slices)
    )
