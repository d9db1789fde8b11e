"""Whose model is this?  A found file, or the answers of a model that nobody shows, against all that was marked here.

Every copy of every submitted version is searched, whether it was released or not: a leak may come from before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from torch import Tensor

from auditsvc import watermark
from auditsvc.errors import AuditError, InvalidInput
from auditsvc.models import CARD, WEIGHTS, read_card
from auditsvc.pipeline.marking import kept, original_of, queries_of, seed_of
from auditsvc.pipeline.querying import read_answers
from auditsvc.ports import Ports
from auditsvc.records import Candidate, MarkedCopy, Release, Revocation, Submission, Value

Standing = Literal["submitted", "released", "revoked"]


class Trace(Value):
    """A copy whose mark was found: which version, for whom it was made, how it stands, and how sure it is."""

    model: str
    version: str
    recipient: str = ""
    standing: Standing
    z: float
    log10_p: float


class Identified(Value):
    """The answer.  ``NO EVIDENCE`` never means "not ours"; the sentence says what can't be found.

    ``log10_p`` is corrected for the number of keys ``tried``; that of a match is not.  ``dispute`` says whether it
    also holds against a claimant who could try keys by the billion.
    """

    verdict: watermark.Verdict
    sentence: str
    log10_p: float
    tried: int
    dispute: bool
    matches: tuple[Trace, ...] = ()
    untried: tuple[str, ...] = ()


@dataclass(frozen=True)
class Registered:
    """A submitted version that carries a mark, and what finds it; without a ``copy`` nothing does."""

    submission: Submission
    candidate: Candidate
    copy: MarkedCopy | None

    @property
    def name(self) -> str:
        """As it is named in the answer."""
        return f"{self.submission.model} version {self.submission.version}"


def registered(ports: Ports) -> Iterator[Registered]:
    """All marked versions, oldest first."""
    for submission in ports.ledger.all(Submission):
        candidate = ports.ledger.get(Candidate, submission.candidate)
        if candidate.mark:
            yield Registered(submission, candidate, kept(candidate.mark, ports))


def identify_file(path: Path, ports: Ports) -> Identified:
    """Search the weights of a found model: a safetensors or ONNX file, or a model folder.

    Raises:
        InvalidInput: a file that can't be read, or nothing that it could be compared with.
        Unavailable: an ONNX file where the package ``onnx`` is not installed.
    """
    suspect = watermark.read_suspect(path / WEIGHTS if path.is_dir() else path)
    known = tuple(registered(ports))
    found = watermark.identify(suspect, [_known(one, one.copy, ports) for one in known if one.copy])
    return _told(found, known, ports)


def identify_answers(answers: Path, ports: Ports) -> Identified:
    """The same from answers alone: the file that ``querying.hand_out`` wrote, filled in.

    Raises:
        InvalidInput: a file that can't be read, or that answers no version's pictures.
    """
    given, known = read_answers(answers), tuple(registered(ports))
    tests: list[tuple[str, str, watermark.Queries]] = []
    failed: list[watermark.Untried] = []
    asked: dict[int, Tensor] = {}
    for one in known:
        if one.copy is None or one.copy.queries is None or one.candidate.mark is None:
            continue
        try:
            queries = queries_of(one.copy, one.candidate.mark, ports)
            asked[id(queries)] = given.to(queries, _classes(one.candidate, ports))
            tests.append((one.name, one.copy.recipient, queries))
        except AuditError as error:
            failed.append(watermark.Untried(one.name, one.copy.recipient, str(error)))
    if not tests and failed:
        reasons = (f"{one.release}: {one.reason}" for one in failed)
        raise InvalidInput(f"{answers.name} answers the pictures of no version", reasons)
    found = watermark.identify_answers(tests, lambda queries: asked[id(queries)])
    return _told(found, known, ports, failed)


def queries_for(ports: Ports, model: str | None = None, version: str | None = None) -> Iterator[watermark.Queries]:
    """The queries of all marked versions, or of those of this model or version.

    Raises:
        InvalidInput: they were kept under another master secret.
    """
    for one in registered(ports):
        wanted = model in (None, one.submission.model) and version in (None, one.submission.version)
        if wanted and one.copy and one.copy.queries and one.candidate.mark:
            yield queries_of(one.copy, one.candidate.mark, ports)


def _classes(candidate: Candidate, ports: Ports) -> tuple[str, ...]:
    (card,) = (file.digest for file in candidate.files if file.name == CARD)
    return read_card(ports.blobs.read(card)).classes


def _known(one: Registered, copy: MarkedCopy, ports: Ports) -> watermark.Known:
    return watermark.Known(
        release=one.name,
        recipient=copy.recipient,
        seed=seed_of(copy, ports),
        unmarked=copy.unmarked,
        payload=watermark.Payload(copy.release_number, copy.recipient_number),
        load=partial(original_of, copy, ports),
    )


def _told(
    found: watermark.Identification,
    known: tuple[Registered, ...],
    ports: Ports,
    failed: list[watermark.Untried] | None = None,
) -> Identified:
    by_name = {one.name: one for one in known}
    lost = [f"{one.name}: what finds its mark is not kept here" for one in known if one.copy is None]
    lost += [f"{one.release}: {one.reason}" for one in (*found.untried, *(failed or ()))]
    return Identified(
        verdict=found.verdict,
        sentence=found.sentence,
        log10_p=found.log10_p,
        tried=len(found.tried),
        dispute=found.dispute,
        matches=tuple(_trace(one, by_name[one.release], ports) for one in found.matches),
        untried=tuple(sorted(lost)),
    )


def _trace(found: watermark.Found, one: Registered, ports: Ports) -> Trace:
    releases = ports.ledger.find(Release, one.candidate.digest)
    revoked = any(ports.ledger.find(Revocation, release.digest) for release in releases)
    return Trace(
        model=one.submission.model,
        version=one.submission.version,
        recipient=found.recipient,
        standing="revoked" if revoked else "released" if releases else "submitted",
        z=found.evidence.z,
        log10_p=found.log10_p,
    )
