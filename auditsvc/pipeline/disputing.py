"""A dispute about a mark: the owner shows one sub-key of sixteen, an arbiter tests with it, fifteen stay secret.

The arbiter believes nothing that the owner brings but what was signed and logged before: the release's provenance
names the unmarked weights by digest and commits to all sub-keys.  The message in the mark follows from that digest and
the recipient's name, so that it can't be fitted to the suspect either.

Limits: the arbiter is shown the unmarked weights.  The test says that the suspect derives from something that
carries this mark, not who took it; of two marks in one model the one that was logged first counts, and whose
"original" holds the other's mark is the later one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from auditsvc import watermark
from auditsvc.errors import InvalidInput, NotVerified, Unavailable
from auditsvc.pipeline.marking import kept, original_of, payload_of, seed_of
from auditsvc.ports import Ports
from auditsvc.provenance import TrustRoot, layout, verify
from auditsvc.provenance.dsse import Bundle
from auditsvc.provenance.statements import PROVENANCE_TYPE, Statement
from auditsvc.provenance.strict import Fault
from auditsvc.records import Candidate, Mark, Moment, Value

REVEAL, ORIGINAL, WIRING = "reveal.json", "original.safetensors", "wiring.json"


class Arbitration(Value):
    """What the arbiter finds with one sub-key; ``p`` of this key alone, which nobody could choose."""

    verdict: watermark.Verdict
    z: float
    log10_p: float
    weights: int
    recipient: str
    logged_as: int


def reveal(candidate: Candidate, lane: int, folder: Path, ports: Ports) -> None:
    """Write what an arbiter needs into a new folder: one sub-key with its proof, and the unmarked weights.

    Raises:
        InvalidInput: no such sub-key, a folder that is not empty, or what finds the mark is not kept here.
        Unavailable: the folder can't be written.
    """
    copy = kept(candidate.mark, ports)
    if copy is None:
        raise InvalidInput("what finds the mark of this candidate is not kept here, so nothing can be shown")
    shown = watermark.reveal_subkey(seed_of(copy, ports), lane)
    original = original_of(copy, ports)
    told = {
        "lane": shown.lane,
        "subkey": shown.subkey.hex(),
        "path": [node.hex() for node in shown.path],
        "recipient": copy.recipient,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InvalidInput(f"{folder} is not empty; give a new folder")
        (folder / REVEAL).write_text(json.dumps(told, indent=1) + "\n")
        save_file({name: tensor.contiguous() for name, tensor in original.weights.items()}, folder / ORIGINAL)
        if original.wiring:
            (folder / WIRING).write_bytes(original.wiring.as_json())
    except OSError as error:
        raise Unavailable(f"{folder} can't be written: {error.strerror}") from error


def arbitrate(found: Path, shown: Path, release: Path, trust: TrustRoot, at: Moment) -> Arbitration:
    """Test a found model with what was shown, against what the release committed to.

    Raises:
        NotVerified: the release does not verify; a release that was recalled is as good as any.
        InvalidInput: a sub-key or weights that the release did not commit to, or files that can't be read.
    """
    checked = verify(release / layout.RELEASE, release / layout.ATTEST, trust=trust, at=at)
    if checked.verdict not in ("VALID", "REVOKED"):
        reasons = (f"{step.step}: {step.code} {step.detail}" for step in checked.reasons)
        raise NotVerified(f"the release in {release} is {checked.verdict}, so nothing was committed to", reasons)
    mark, index = _committed(release)
    told = _read(shown / REVEAL)
    try:
        path = tuple(bytes.fromhex(node) for node in told["path"])
        subkey = watermark.Reveal(int(told["lane"]), bytes.fromhex(told["subkey"]), path)
        recipient = str(told["recipient"])
        original = load_file(shown / ORIGINAL)
        wiring = watermark.Wiring.from_json((shown / WIRING).read_bytes()) if (shown / WIRING).exists() else None
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
        bundle = Bundle.parse((release / layout.ATTEST / f"provenance{layout.SUFFIX}").read_bytes())
        predicate = Statement.parse(bundle.payload, PROVENANCE_TYPE).predicate
        things = {item["name"]: f"sha256:{item['digest']['sha256']}" for item in predicate["runDetails"]["byproducts"]}
        told = predicate["buildDefinition"]["internalParameters"]["mark"]
        mark = Mark(
            scheme=told["scheme"],
            commitment=things["watermark-commitment"],
            unmarked=things["unmarked-weights"],
            parameters=dict(told["parameters"]),
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
        raise InvalidInput(f"{path} is not what `auditsvc reveal` writes")
    return value
