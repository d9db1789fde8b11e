"""Identification: compare a suspect model, or its answers, with all registered releases.

Every key tried is a chance of a false positive, so ``p`` is multiplied by the number of keys tried (Bonferroni).  The
verdict is MATCH, INCONCLUSIVE or NO EVIDENCE, never "not a copy", because a watermark can be destroyed; each negative
result states how.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from auditsvc.errors import AuditError, InvalidInput
from auditsvc.records import Digest
from auditsvc.watermark.detector import Detection, compare
from auditsvc.watermark.escrow import Unmarked
from auditsvc.watermark.query_set import Answered, Queries
from auditsvc.watermark.watermark_keys import Payload, all_subkeys, require_bound

MATCH_BELOW = -12.0
"""log10 p, after correction, for MATCH."""

UNSURE_BELOW = -6.0
"""log10 p, after correction, for INCONCLUSIVE."""

DISPUTE_BELOW = -128 * math.log10(2)
"""log10 p, after correction, that also holds against a claimant who may have tried keys by the billion."""

Verdict = Literal["MATCH", "INCONCLUSIVE", "NO EVIDENCE"]

BREAKS = (
    "This does not show that the model is not a copy: a mark is lost when a network is trained anew on the answers "
    "of the marked one (distillation), and can't be read when layers were split, merged, inserted or otherwise "
    "changed so that the channels can't be aligned."
)
"""Where the test of weights breaks; part of every answer that finds nothing."""

BREAKS_ASKING = (
    "This does not show that the model is not a copy: from answers alone a mark is often no longer seen after "
    "fine-tuning, further pruning or distillation.  If its weights can be had, test those."
)
"""Where the test of answers breaks."""


@dataclass(frozen=True)
class KeyToTry:
    """A registered release for one recipient, with the key to its mark; ``load`` opens what is kept encrypted."""

    release: str
    recipient: str
    seed: bytes
    unmarked: Digest
    payload: Payload
    load: Callable[[], Unmarked]


@dataclass(frozen=True)
class KeyMatch:
    """What was found for one release and recipient; ``log10_p`` is before correction."""

    release: str
    recipient: str
    evidence: Detection | Answered

    @property
    def log10_p(self) -> float:
        """The p-value of this key alone."""
        return self.evidence.log10_p


@dataclass(frozen=True)
class SkippedKey:
    """A release that could not be compared with, and why: its kept file is gone, damaged, or under another secret."""

    release: str
    recipient: str
    reason: str


@dataclass(frozen=True)
class Identification:
    """The answer, the keys that were found (several, if recipients mixed their copies), and all that was tried.

    ``log10_p`` is that of the best key, corrected for the number tried.  ``dispute`` says whether it would also
    hold against a claimant who could try keys freely (p under 2**-128).  ``untried`` is part of every sentence.
    """

    verdict: Verdict
    log10_p: float
    matches: tuple[KeyMatch, ...]
    tried: tuple[KeyMatch, ...]
    dispute: bool
    sentence: str
    untried: tuple[SkippedKey, ...] = ()


def identify(suspect: Mapping[str, Tensor], releases: Iterable[KeyToTry]) -> Identification:
    """Test the weights of a found model for the marks of all these releases.

    Releases with the same unmarked weights are compared once, whatever the number of recipients.

    Raises:
        InvalidInput: no release that could be compared with.
    """
    found = tuple(_tested(suspect, releases))
    untried = [one for one in found if isinstance(one, SkippedKey)]
    return _answer([one for one in found if isinstance(one, KeyMatch)], BREAKS, untried)


def identify_answers(tests: Iterable[tuple[str, str, Queries]], answers: Callable[[Queries], Tensor]) -> Identification:
    """The same from answers alone: ``(release, recipient, queries)``, and a function that queries the suspect.

    Raises:
        InvalidInput: no release to compare with, or answers that do not fit the queries.
    """
    found = tuple(KeyMatch(release, recipient, queries.test(answers(queries))) for release, recipient, queries in tests)
    return _answer(found, BREAKS_ASKING)


def verdict_of(log10_p: float, *, disputed: bool = False) -> Verdict:
    """What follows from a corrected p; ``disputed`` holds against a claimant who could try keys freely."""
    below = DISPUTE_BELOW if disputed else MATCH_BELOW
    return "MATCH" if log10_p < below else "INCONCLUSIVE" if log10_p < UNSURE_BELOW else "NO EVIDENCE"


def _tested(suspect: Mapping[str, Tensor], releases: Iterable[KeyToTry]) -> Iterator[KeyMatch | SkippedKey]:
    by_weights: dict[Digest, list[KeyToTry]] = {}
    for known in releases:
        by_weights.setdefault(known.unmarked, []).append(known)
    for unmarked, group in by_weights.items():
        try:
            original = group[0].load()
            require_bound(original.weights, unmarked)
        except AuditError as error:
            yield from (SkippedKey(known.release, known.recipient, str(error)) for known in group)
            continue
        comparison = compare(suspect, original.weights, original.wiring)
        for known in group:
            evidence = comparison.judge(all_subkeys(known.seed), unmarked, known.payload)
            yield KeyMatch(known.release, known.recipient, evidence)


def _answer(tried: Sequence[KeyMatch], breaks: str, untried: Sequence[SkippedKey] = ()) -> Identification:
    if not tried:
        reasons = (f"{one.release}: {one.reason}" for one in untried)
        raise InvalidInput("no release is registered with a mark that could be compared with", reasons)
    ordered = sorted(tried, key=lambda found: found.log10_p)
    tries = math.log10(len(ordered))
    best = min(0.0, ordered[0].log10_p + tries)
    matches = tuple(found for found in ordered if found.log10_p + tries < MATCH_BELOW)
    verdict = verdict_of(best)
    return Identification(
        verdict=verdict,
        log10_p=best,
        matches=matches,
        tried=tuple(ordered),
        dispute=best < DISPUTE_BELOW,
        sentence=_sentence(verdict, ordered, matches, best, breaks) + _gap(untried),
        untried=tuple(untried),
    )


def _gap(untried: Sequence[SkippedKey]) -> str:
    names = ", ".join(sorted({one.release for one in untried}))
    return f"  Not compared, because what finds their marks can't be opened: {names}." if untried else ""


def _sentence(
    verdict: Verdict, tried: Sequence[KeyMatch], matches: Sequence[KeyMatch], best: float, breaks: str
) -> str:
    chance = f"p below 10^{math.ceil(best):d} after correction for {len(tried)} keys tried"
    if verdict == "MATCH":
        names = " and ".join(
            f"release {one.release}" + (f" given to {one.recipient}" * bool(one.recipient)) for one in matches
        )
        return f"The model carries the mark of {names} ({chance})."
    if verdict == "INCONCLUSIVE":
        return f"There is a trace of release {tried[0].release}, too weak to count on ({chance}).  {breaks}"
    return f"No evidence of a mark among {len(tried)} keys tried.  {breaks}"
