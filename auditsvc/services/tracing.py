"""Identify a found model by its watermark, from its file or from its answers to queries, and settle disputes.

Every watermarked copy of every submitted version is searched, released or not: a leak may come from an earlier stage.

Black-box queries are ordinary images named by their content, so a suspect can't detect that it is tested.  The exported
images reveal nothing about a key; how the answers are scored stays here, encrypted.

In a dispute the owner reveals one sub-key of sixteen, an arbiter tests with it, and fifteen stay secret.  The arbiter
trusts only what was signed and logged before: the provenance of the release names the unmarked weights by digest and
commits to all sub-keys.  The message in the watermark follows from that digest and the recipient's name, so it can't be
fitted to the suspect.

Limits: the arbiter sees the unmarked weights.  The test shows that the suspect derives from a model with this
watermark, not who took it.  Of two watermarks in one model the one that was logged first counts, and an "original" that
contains the other party's watermark is the later one.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from auditsvc import watermark
from auditsvc.errors import AuditError, InvalidInput, NotVerified, Unavailable
from auditsvc.models import CARD, WEIGHTS, read_card
from auditsvc.ports import Context
from auditsvc.provenance import TrustRoot, verify
from auditsvc.provenance.formats import release_layout
from auditsvc.provenance.formats.dsse import Bundle
from auditsvc.provenance.formats.predicates import PROVENANCE_TYPE, Statement
from auditsvc.provenance.formats.strict_json import Fault
from auditsvc.records import (
    Candidate,
    Mark,
    Moment,
    Release,
    Revocation,
    Submission,
    TraceMatch,
    TraceResult,
    Value,
    WatermarkKeyRecord,
)
from auditsvc.services.watermarking import find_watermark_key, original_of, payload_of, queries_of, seed_of
from auditsvc.watermark import Queries

SHEET = "answers.csv"
"""The file to be filled in."""


def pictures(queries: Queries) -> dict[str, bytes]:
    """The pictures of a set of queries as PNG files, by name, in its order.

    Raises:
        InvalidInput: images of neither one nor three channels.
    """
    return dict(_picture(image) for image in _bytes_of(queries))


def export_query_set(sets: Iterable[Queries], folder: Path) -> int:
    """Write all pictures of these sets and the sheet to be filled in; the number of pictures.

    Raises:
        InvalidInput: no queries, or a folder that is not empty.
        Unavailable: the folder can't be written.
    """
    files: dict[str, bytes] = {}
    for queries in sets:
        files |= pictures(queries)
    if not files:
        raise InvalidInput("no version in this store has queries to export")
    sheet = "image,label\n" + "".join(f"{name},\n" for name in sorted(files))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InvalidInput(f"{folder} is not empty; give a new folder")
        for name, data in files.items():
            (folder / name).write_bytes(data)
        (folder / SHEET).write_text(sheet)
    except OSError as error:
        raise Unavailable(f"{folder} can't be written: {error.strerror}") from error
    return len(files)


@dataclass(frozen=True)
class QueryAnswers:
    """What a suspect answered, by picture: one label, or one number for each class named in ``classes``."""

    by_picture: Mapping[str, tuple[str, ...]]
    classes: tuple[str, ...]

    def to(self, queries: Queries, classes: tuple[str, ...]) -> Tensor:
        """The answers to these queries: ``(N,)`` labels as numbers, or ``(N, classes)``.

        Raises:
            InvalidInput: a picture without an answer, or other classes than the model's.
        """
        names = [_name(image) for image in _bytes_of(queries)]
        missing = sum(name not in self.by_picture for name in names)
        if missing:
            raise InvalidInput(f"{missing} of its {len(names)} pictures have no answer")
        rows = [self.by_picture[name] for name in names]
        if not self.classes:
            return torch.tensor([_label(row[0], classes) for row in rows])
        if set(self.classes) != set(classes):
            raise InvalidInput(f"the answers are about the classes {', '.join(self.classes)}, not {', '.join(classes)}")
        order = [self.classes.index(name) for name in classes]
        try:
            return torch.tensor([[float(row[at]) for at in order] for row in rows])
        except ValueError as error:
            raise InvalidInput(f"an answer is no number: {error}") from error


def read_answers(path: Path) -> QueryAnswers:
    """Read a filled-in sheet: ``image,label``, or ``image`` and a column of numbers for each class by name.

    Raises:
        InvalidInput: no such file, or another shape; says which line.
    """
    try:
        return parse_answers(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"{path} can't be read: {error}") from error


def parse_answers(text: str) -> QueryAnswers:
    """The answers in the text of a sheet.  Raises as ``read_answers``."""
    lines = csv.reader(io.StringIO(text))
    head = [cell.strip() for cell in next(lines, [])]
    if len(head) < 2 or head[0] != "image":
        raise InvalidInput("the first line must be image,label or image and the names of all classes")
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines, start=2):
        if not line:
            continue
        if len(line) != len(head):
            raise InvalidInput(f"line {number} has {len(line)} cells, the first line has {len(head)}")
        cells = tuple(cell.strip() for cell in line)
        if all(cells):
            found[Path(cells[0]).name] = cells[1:]
    return QueryAnswers(found, () if head[1:] == ["label"] else tuple(head[1:]))


def _label(text: str, classes: tuple[str, ...]) -> int:
    if text in classes:
        return classes.index(text)
    if text.isdecimal() and int(text) < len(classes):
        return int(text)
    raise InvalidInput(f"{text[:80]!r} is none of its classes: {', '.join(classes)}")


def _bytes_of(queries: Queries) -> Tensor:
    return (queries.images * 255).round().to(torch.uint8)


def _name(image: Tensor) -> str:
    return hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest()[:16] + ".png"


def _picture(image: Tensor) -> tuple[str, bytes]:
    if image.shape[0] not in (1, 3):
        raise InvalidInput(f"images of {image.shape[0]} channels can't be exported as images")
    pixels = image[0] if image.shape[0] == 1 else image.permute(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(pixels.contiguous().numpy()).save(file, "PNG")
    return _name(image), file.getvalue()


@dataclass(frozen=True)
class MarkedVersion:
    """A submitted version that carries a mark, and what finds it; without a ``copy`` nothing does."""

    submission: Submission
    candidate: Candidate
    copy: WatermarkKeyRecord | None

    @property
    def name(self) -> str:
        """As it is named in the answer."""
        return f"{self.submission.model} version {self.submission.version}"


def marked_versions(ctx: Context) -> Iterator[MarkedVersion]:
    """All marked versions, oldest first."""
    for submission in ctx.ledger.all(Submission):
        candidate = ctx.ledger.get(Candidate, submission.candidate)
        if candidate.mark:
            yield MarkedVersion(submission, candidate, find_watermark_key(ctx, candidate.mark))


def identify_file(ctx: Context, path: Path) -> TraceResult:
    """Search the weights of a found model: a safetensors or ONNX file, or a model folder.

    Raises:
        InvalidInput: a file that can't be read, or nothing that it could be compared with.
    """
    suspect = watermark.read_suspect(path / WEIGHTS if path.is_dir() else path)
    known = tuple(marked_versions(ctx))
    found = watermark.identify(suspect, [_known(ctx, one, one.copy) for one in known if one.copy])
    return _fields(ctx, found, known)


def identify_answers(ctx: Context, answers: Path) -> TraceResult:
    """The same from answers alone: the file that ``export_query_set`` wrote, filled in.

    Raises:
        InvalidInput: a file that can't be read, or that answers no version's pictures.
    """
    given, known = read_answers(answers), tuple(marked_versions(ctx))
    tests: list[tuple[str, str, watermark.Queries]] = []
    failed: list[watermark.SkippedKey] = []
    asked: dict[int, Tensor] = {}
    for one in known:
        if one.copy is None or one.copy.queries is None or one.candidate.mark is None:
            continue
        try:
            queries = queries_of(ctx, one.copy, one.candidate.mark)
            asked[id(queries)] = given.to(queries, _classes(ctx, one.candidate))
            tests.append((one.name, one.copy.recipient, queries))
        except AuditError as error:
            failed.append(watermark.SkippedKey(one.name, one.copy.recipient, str(error)))
    if not tests and failed:
        reasons = (f"{one.release}: {one.reason}" for one in failed)
        raise InvalidInput(f"{answers.name} answers the pictures of no version", reasons)
    found = watermark.identify_answers(tests, lambda queries: asked[id(queries)])
    return _fields(ctx, found, known, failed)


def queries_for(ctx: Context, model: str | None = None, version: str | None = None) -> Iterator[watermark.Queries]:
    """The queries of all marked versions, or of those of this model or version.

    Raises:
        InvalidInput: they were kept under another master secret.
    """
    for one in marked_versions(ctx):
        wanted = model in (None, one.submission.model) and version in (None, one.submission.version)
        if wanted and one.copy and one.copy.queries and one.candidate.mark:
            yield queries_of(ctx, one.copy, one.candidate.mark)


def _classes(ctx: Context, candidate: Candidate) -> tuple[str, ...]:
    (card,) = (file.digest for file in candidate.files if file.name == CARD)
    return read_card(ctx.blobs.read(card)).classes


def _known(ctx: Context, one: MarkedVersion, copy: WatermarkKeyRecord) -> watermark.KeyToTry:
    return watermark.KeyToTry(
        release=one.name,
        recipient=copy.recipient,
        seed=seed_of(ctx, copy),
        unmarked=copy.unmarked,
        payload=watermark.Payload(copy.release_number, copy.recipient_number),
        load=partial(original_of, ctx, copy),
    )


def _fields(
    ctx: Context,
    found: watermark.Identification,
    known: tuple[MarkedVersion, ...],
    failed: list[watermark.SkippedKey] | None = None,
) -> TraceResult:
    by_name = {one.name: one for one in known}
    lost = [f"{one.name}: its watermark key is not in this store" for one in known if one.copy is None]
    lost += [f"{one.release}: {one.reason}" for one in (*found.untried, *(failed or ()))]
    return TraceResult(
        verdict=found.verdict,
        sentence=found.sentence,
        log10_p=found.log10_p,
        tried=len(found.tried),
        dispute=found.dispute,
        matches=tuple(_trace(ctx, one, by_name[one.release]) for one in found.matches),
        untried=tuple(sorted(lost)),
    )


def _trace(ctx: Context, found: watermark.KeyMatch, one: MarkedVersion) -> TraceMatch:
    releases = ctx.ledger.find(Release, one.candidate.digest)
    revoked = any(ctx.ledger.find(Revocation, release.digest) for release in releases)
    return TraceMatch(
        model=one.submission.model,
        version=one.submission.version,
        recipient=found.recipient,
        standing="revoked" if revoked else "released" if releases else "submitted",
        z=found.evidence.z,
        log10_p=found.log10_p,
    )


REVEAL, ORIGINAL, WIRING = "reveal.json", "original.safetensors", "wiring.json"


class Arbitration(Value):
    """What the arbiter finds with one sub-key; ``p`` of this key alone, which could not be chosen."""

    verdict: watermark.Verdict
    z: float
    log10_p: float
    weights: int
    recipient: str
    logged_as: int


def reveal(ctx: Context, candidate: Candidate, lane: int, folder: Path) -> None:
    """Write what an arbiter needs into a new folder: one sub-key with its proof, and the unmarked weights.

    Raises:
        InvalidInput: no such sub-key, a folder that is not empty, or what finds the mark is not kept here.
        Unavailable: the folder can't be written.
    """
    copy = find_watermark_key(ctx, candidate.mark)
    if copy is None:
        raise InvalidInput("the watermark key of this candidate is not in this store, so nothing can be revealed")
    shown = watermark.reveal_subkey(seed_of(ctx, copy), lane)
    original = original_of(ctx, copy)
    fields = {
        "lane": shown.lane,
        "subkey": shown.subkey.hex(),
        "path": [node.hex() for node in shown.path],
        "recipient": copy.recipient,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InvalidInput(f"{folder} is not empty; give a new folder")
        (folder / REVEAL).write_text(json.dumps(fields, indent=1) + "\n")
        save_file({name: tensor.contiguous() for name, tensor in original.weights.items()}, folder / ORIGINAL)
        if original.wiring:
            (folder / WIRING).write_bytes(original.wiring.as_json())
    except OSError as error:
        raise Unavailable(f"{folder} can't be written: {error.strerror}") from error


def arbitrate(found: Path, shown: Path, release: Path, trust: TrustRoot, at: Moment) -> Arbitration:
    """Test a found model with what was shown, against what the release committed to.

    Raises:
        NotVerified: the release does not verify; a revoked release is accepted.
        InvalidInput: a sub-key or weights that the release did not commit to, or files that can't be read.
    """
    checked = verify(release / release_layout.RELEASE, release / release_layout.ATTEST, trust=trust, at=at)
    if checked.verdict not in ("VALID", "REVOKED"):
        reasons = (f"{step.step}: {step.code} {step.detail}" for step in checked.reasons)
        raise NotVerified(f"the release in {release} is {checked.verdict}, so nothing was committed to", reasons)
    mark, index = _committed(release)
    fields = _read(shown / REVEAL)
    try:
        path = tuple(bytes.fromhex(node) for node in fields["path"])
        subkey = watermark.Reveal(int(fields["lane"]), bytes.fromhex(fields["subkey"]), path)
        recipient = str(fields["recipient"])
        original = load_file(shown / ORIGINAL)
        wiring = watermark.ChannelGraph.from_json((shown / WIRING).read_bytes()) if (shown / WIRING).exists() else None
    except (KeyError, TypeError, ValueError, OSError, SafetensorError) as error:
        raise InvalidInput(f"what was shown in {shown} can't be read: {error}") from error
    result = watermark.verify_reveal(
        watermark.read_suspect(found),
        original,
        reveal=subkey,
        mark=mark,
        payload=payload_of(mark.unmarked, recipient),
        wiring=wiring,
    )
    return Arbitration(
        verdict=watermark.verdict_of(result.log10_p, disputed=True),
        z=result.z,
        log10_p=result.log10_p,
        weights=result.coordinates,
        recipient=recipient,
        logged_as=index,
    )


def _committed(release: Path) -> tuple[Mark, int]:
    """The mark as the verified provenance has it, and where that was logged."""
    try:
        bundle = Bundle.parse((release / release_layout.ATTEST / f"provenance{release_layout.SUFFIX}").read_bytes())
        predicate = Statement.parse(bundle.payload, PROVENANCE_TYPE).predicate
        things = {item["name"]: f"sha256:{item['digest']['sha256']}" for item in predicate["runDetails"]["byproducts"]}
        fields = predicate["buildDefinition"]["internalParameters"]["mark"]
        mark = Mark(
            scheme=fields["scheme"],
            commitment=things["watermark-commitment"],
            unmarked=things["unmarked-weights"],
            parameters=dict(fields["parameters"]),
        )
    except (KeyError, TypeError, ValueError, Fault, OSError) as error:
        raise InvalidInput(f"the release in {release} commits to no mark") from error
    return mark, bundle.entries[0].index if bundle.entries else -1


def _read(path: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} can't be read: {error}") from error
    if not isinstance(value, dict):
        raise InvalidInput(f"{path} is not what `auditsvc watermark reveal` writes")
    return value
