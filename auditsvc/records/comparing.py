"""Two policies side by side: what the second asks that the first does not, and where it is stricter or laxer."""

from __future__ import annotations

from typing import Any

from auditsvc.records.policy import Policy, Rule

_PARTS = {"checks", "rules", "kind"}


def differences(old: Policy, new: Policy) -> tuple[str, ...]:
    """One line for each difference, in the order of the policy; none where both have one digest."""
    return (*_fields(old, new), *_checks(old, new), *_rules(old, new))


def _fields(old: Policy, new: Policy) -> list[str]:
    before, after = old.model_dump(mode="json"), new.model_dump(mode="json")
    return _changed("", before, after, skip=_PARTS)


def _changed(where: str, before: dict[str, Any], after: dict[str, Any], skip: set[str]) -> list[str]:
    return [
        f"{where}{name}: {_shown(before.get(name))} -> {_shown(after.get(name))}{_kept_shorter(name, before, after)}"
        for name in dict.fromkeys((*before, *after))
        if name not in skip and before.get(name) != after.get(name)
    ]


_STRICTER_IF_LARGER = {"approvals": True, "alpha": False, "max_age_days": False, "min_images": False}


def _kept_shorter(name: str, before: dict[str, Any], after: dict[str, Any]) -> str:
    """Whether a changed number of the policy itself asks for more or for less."""
    larger = _STRICTER_IF_LARGER.get(name)
    if larger is None or before.get(name) is None or after.get(name) is None:
        return ""
    return " (stricter)" if (after[name] > before[name]) == larger else " (laxer)"


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)


def _checks(old: Policy, new: Policy) -> list[str]:
    lines = [f"check {name} is not run any more" for name in old.checks if name not in new.checks]
    for name, spec in new.checks.items():
        known = old.checks.get(name)
        if known is None:
            lines.append(f"check {name} is new")
        elif known != spec:
            if known.version != spec.version:
                lines.append(f"check {name}: version {known.version} -> {spec.version}")
            lines += _changed(f"check {name}: ", known.parameters, spec.parameters, skip=set())
    return lines


def _rules(old: Policy, new: Policy) -> list[str]:
    before = {rule.rule: rule for rule in old.rules}
    after = {rule.rule: rule for rule in new.rules}
    lines = [f"rule {name} is gone (laxer): {rule.sentence()}" for name, rule in before.items() if name not in after]
    for name, rule in after.items():
        known = before.get(name)
        if known is None:
            lines.append(f"rule {name} is new (stricter): {rule.sentence()}")
        else:
            fields = _changed(f"rule {name}: ", known.model_dump(mode="json"), rule.model_dump(mode="json"), skip=set())
            lines += [f"{line}{_tendency(line, known, rule)}" for line in fields]
    return lines


def _tendency(line: str, old: Rule, new: Rule) -> str:
    """Whether a changed number or severity asks for more or for less, where that can be said."""
    field = line.partition(": ")[2].partition(": ")[0]
    if field == "severity":
        return " (stricter)" if new.severity == "block" else " (laxer)"
    if field == "below_minimum":
        return " (stricter)" if new.below_minimum == "block" else " (laxer)"
    if field in ("at_least", "at_most") and (old.at_least is None) == (new.at_least is None):
        higher = new.limit > old.limit
        return " (stricter)" if higher == (new.at_least is not None) else " (laxer)"
    return ""
