"""A decision on one screen: the verdict, accuracy, the worst findings, what is unknown, and what would settle it.

The long form lists every finding by rule.  Both are text for a terminal; the report and ``--json`` have every number.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from auditsvc.compliance.report.wording import MEASURE_WORDS, plural, slice_words
from auditsvc.records import OVERALL, Decision, Evidence, Judgement, Measured, Metric, Policy, Rule, Unmeasured
from auditsvc.records.messages import images_to_decide

WORST = 3
"""The findings that the short form names."""

LABEL = 13
"""The width of a line's label, which two spaces precede."""

_FAR = 20
"""An estimate above this multiple of the images at hand says only that the limit is too near."""


@dataclass(frozen=True)
class RuleFindings:
    """The findings of one rule with one verdict and severity, the worst first."""

    rule: Rule
    findings: tuple[Judgement, ...]

    @property
    def worst(self) -> Judgement:
        """The finding that is furthest from the limit."""
        return self.findings[0]


def findings_by_rule(decision: Decision, policy: Policy) -> tuple[RuleFindings, ...]:
    """The findings of a decision by rule, verdict and severity: violated before unknown, blocking before warning.

    Findings that a waiver covers come last.
    """
    rules = {rule.rule: rule for rule in policy.rules}
    groups: dict[tuple[str, str, str, bool], list[Judgement]] = {}
    for item in decision.findings:
        key = (item.rule, item.verdict, item.severity, item.waiver is not None)
        groups.setdefault(key, []).append(item)
    found = [RuleFindings(rules[rule], tuple(sorted(items, key=_distance))) for (rule, *_), items in groups.items()]
    return tuple(sorted(found, key=lambda group: (_rank(group.worst), _distance(group.worst))))


def _rank(item: Judgement) -> tuple[bool, bool, bool, bool]:
    unmeasured = isinstance(item.outcome, Unmeasured)
    return (item.waiver is not None, item.severity != "block", item.verdict != "violated", unmeasured)


def _distance(item: Judgement) -> float:
    """How far an estimate is on the good side of its limit; a share of 1 at most, as units differ between rules."""
    if isinstance(item.outcome, Unmeasured):
        return 2.0
    beyond = item.outcome.value - item.limit
    return max(-1.0, min(1.0, -beyond if item.bound == "at_most" else beyond))


def short_summary(
    decision: Decision, policy: Policy, evidence: Sequence[Evidence], subject: str, crashed: Iterable[str] = ()
) -> tuple[str, ...]:
    """About ten lines: ``subject`` names the model and its version, ``crashed`` the checks without evidence."""
    text = _Text(policy, {run.digest: run for run in evidence})
    groups = [group for group in findings_by_rule(decision, policy) if group.worst.waiver is None]
    against = [group for group in groups if group.worst.verdict == "violated"]
    unknown = [group for group in groups if group.worst.verdict == "unknown"]
    named = [*against, *(group for group in unknown if group.worst.severity == "block")][:WORST]
    spelt = {group.rule.rule for group in named if group.worst.severity == "block"}
    rest = [group for group in (*against, *unknown) if group not in named and group.rule.rule not in spelt]
    rest += [group for group in unknown if group.worst.severity == "warn" and group.rule.rule in spelt]
    return (
        text.verdict(decision, subject, evidence),
        *text.accuracy(evidence),
        *(text.finding(group) for group in named),
        *text.others(rest),
        *(text.deciding(unknown) if decision.outcome == "inconclusive" else ()),
        *_bound(decision),
        *(_line("crashed", f"the check {name}; its rules are unknown") for name in crashed),
    )


def long_summary(
    decision: Decision, policy: Policy, evidence: Sequence[Evidence], subject: str, crashed: Iterable[str] = ()
) -> tuple[str, ...]:
    """Every finding in its own words, under its rule; then the notes on the decision."""
    text = _Text(policy, {run.digest: run for run in evidence})
    lines = [text.verdict(decision, subject, evidence), *text.accuracy(evidence), *_bound(decision)]
    for group in findings_by_rule(decision, policy):
        waived = ", waived" if group.worst.waiver else ""
        lines.append(f"  {group.rule.rule} ({group.worst.verdict}, {group.worst.severity}{waived})")
        lines += [f"    {item.words}" for item in group.findings]
    lines += [_line("note", note) for note in decision.notes or ()]
    return (*lines, *(_line("crashed", f"the check {name}; its rules are unknown") for name in crashed))


def _bound(decision: Decision) -> Iterator[str]:
    """That a trial has no consequences; a binding decision needs no words."""
    if decision.trial:
        yield _line("trial", "no terms bind this decision: it can't be approved or released (auditsvc terms)")


def _line(label: str, text: str) -> str:
    return f"  {label:<{LABEL}}{text}"


@dataclass(frozen=True)
class _Text:
    policy: Policy
    runs: dict[str, Evidence]

    def verdict(self, decision: Decision, subject: str, evidence: Sequence[Evidence]) -> str:
        """The first line."""
        data = next((run.dataset for run in evidence), None)
        on = f" on {plural(data.images, 'image')} of {data.name}" if data else ""
        return f"{decision.outcome}: {subject}{on}, policy {self.policy.policy} version {self.policy.version}"

    def accuracy(self, evidence: Sequence[Evidence]) -> Iterator[str]:
        """The scores of candidate and parent on unmodified images, and the loss."""
        found = clean_scores(evidence)
        if found:
            run = next(run for run in evidence if run.key.check == "accuracy")
            shown = f"{_interval(run.metric('score.clean'), found['score'])}; its parent "
            shown += f"{100 * found['parent'].value:.1f} %; {_loss(found['drop'])}"
            yield _line("accuracy" if MEASURE_WORDS[run.dataset.task] == "accuracy" else "score", shown)

    def finding(self, group: RuleFindings) -> str:
        """One rule: its worst finding, and on how many other slices or conditions it is not met."""
        more = len(group.findings) - 1
        also = f"; and {more} more of this rule" if more else ""
        warns = " (warning)" if group.worst.severity == "warn" else ""
        return _line(group.worst.verdict, f"{group.rule.rule}{warns}: {self._one(group.worst)}{also}")

    def _one(self, item: Judgement) -> str:
        run = self.runs.get(item.evidence or "")
        name = item.metric.partition("/")[2]
        if run is None or isinstance(item.outcome, Unmeasured):
            reason = item.outcome.reason if isinstance(item.outcome, Unmeasured) else item.words
            return f"{slice_words(item.slice)}: {reason}"
        metric = run.metric(name)
        shown = metric.difference() if item.against else metric
        where = f"{slice_words(item.slice)}{self._condition(run, metric)}"
        unit = f" {shown.unit}" if shown.unit and shown.unit != "points" else ""
        limit = f"{'at most' if item.bound == 'at_most' else 'at least'} {shown.text(item.limit)}{unit} wanted"
        images = plural(item.outcome.images, "image")
        if metric.role == "loss" and not item.against:
            return f"{_loss(item.outcome)} on {where}, {images}; {limit}"
        whose = f" for {item.outcome.which}" if item.outcome.which else ""
        return f"{metric.title}{whose} on {where}: {_interval(shown, item.outcome)}, {images}; {limit}"

    def _condition(self, run: Evidence, metric: Metric) -> str:
        known = run.declared.condition_by_name if run.declared else {}
        if metric.condition in (None, "clean"):
            return ""
        return f", {known[metric.condition].words if metric.condition in known else metric.condition}"

    def others(self, groups: Sequence[RuleFindings]) -> Iterator[str]:
        """The rules that the short form does not spell out, and slices that are excused because they are small."""
        rules = [group.rule.rule for group in groups if group.worst.severity == "block"]
        if rules:
            yield _line("also", f"{', '.join(dict.fromkeys(rules))}")
        warned = [group for group in groups if group.worst.severity == "warn"]
        shown = [group for group in warned if group.rule.severity == "warn"]
        if shown:
            words = (f"{group.rule.rule} {group.worst.verdict}" for group in shown)
            yield _line("warnings", ", ".join(dict.fromkeys(words)))
        small = {
            item.slice: item.outcome.images
            for group in warned
            if group.rule.severity != "warn"
            for item in group.findings
            if isinstance(item.outcome, Unmeasured)
        }
        if small:
            named = [f"{name} ({images})" for name, images in sorted(small.items(), key=lambda one: -one[1])]
            yield _line("not judged", f"too few images: {_first(named)}")

    def deciding(self, unknown: Sequence[RuleFindings]) -> Iterator[str]:
        """How many images would settle what blocks and is unknown: the largest number over all of it."""
        needed: dict[str, int] = {}
        for group in unknown:
            for item in group.findings:
                run = self.runs.get(item.evidence or "")
                if item.severity != "block" or run is None:
                    continue
                count = self._needed(group.rule, run.metric(item.metric.partition("/")[2]), item, run.key.alpha)
                needed[item.slice] = max(needed.get(item.slice, 0), count)
        far = sorted(name for name, count in needed.items() if count == sys.maxsize)
        near = sorted(((count, name) for name, count in needed.items() if count < sys.maxsize), reverse=True)
        if near:
            named = [f"about {count} images of {slice_words(name)}" for count, name in near]
            yield _line("would settle", _first(named))
        if far:
            yield _line("too near", f"the limit for more images to settle it: {_first([*map(slice_words, far)])}")

    @staticmethod
    def _needed(rule: Rule, metric: Metric, item: Judgement, level: float) -> int:
        if isinstance(item.outcome, Unmeasured):
            return rule.min_images if item.outcome.images and item.outcome.images < rule.min_images else sys.maxsize
        count = images_to_decide(rule, metric, item.outcome, level)
        return count if count <= _FAR * item.outcome.images else sys.maxsize


def clean_scores(evidence: Iterable[Evidence]) -> dict[str, Measured]:
    """``score``, ``parent`` and ``drop`` on unmodified images, as the accuracy check measured them; empty if not."""
    for run in evidence:
        if run.key.check == "accuracy":
            found = {name: run.reading(f"{name}.clean", OVERALL) for name in ("score", "parent", "drop")}
            measured = {name: one for name, one in found.items() if isinstance(one, Measured)}
            return measured if len(measured) == len(found) else {}
    return {}


def _first(named: Sequence[str]) -> str:
    more = f" and {len(named) - WORST} more" if len(named) > WORST else ""
    return ", ".join(named[:WORST]) + more


def _interval(metric: Metric, outcome: Measured) -> str:
    value, low, high = (metric.text(number) for number in (outcome.value, outcome.low, outcome.high))
    unit = f" {metric.unit}" if metric.unit else ""
    return f"{value}{unit} ({low} to {high})" if low != high else f"{value}{unit}"


def _loss(outcome: Measured) -> str:
    """``loses 8.6 points (5.3 to 13.6)``; a gain has its interval as one."""
    sign = -1 if outcome.value < 0 else 1
    ends = sorted((sign * outcome.low, sign * outcome.high))
    value, low, high = (f"{100 * number:.1f}" for number in (abs(outcome.value), *ends))
    low = "0.0" if low == "-0.0" else low
    return f"{'gains' if sign < 0 else 'loses'} {value} points ({low} to {high})"
