"""Cases 58 to 63: the log, witnesses, timestamps."""

from __future__ import annotations

import datetime
from dataclasses import replace

from auditsvc.adapters.file_keys import FileKeys
from auditsvc.provenance.formats.dsse import Bundle, LogEntry, ed25519_raw
from auditsvc.provenance.formats.signed_note import (
    COSIGNATURE,
    Checkpoint,
    NoteKey,
    cosigned_bytes,
    sign_checkpoint,
    signature_line,
)
from auditsvc.provenance.signer.checkpoints import check_growth
from auditsvc.provenance.trust.trust_root import log_origin
from auditsvc.records import Verification
from tests.fakes.log import MemoryLog
from tests.provenance.authority import Authority
from tests.provenance.cases import case, caught
from tests.provenance.forge import Forge
from tests.provenance.sample import AT


def entry(forge: Forge, change, name: str = "vsa") -> None:
    """Change the log entry of a bundle."""
    bundle = forge.bundle(name)
    forge.path(name).write_bytes(bundle.logged(change(bundle.entries[0])).to_json())


@case(58, "the place in the log was taken away", "LOG_MISSING")
def _(forge: Forge) -> None:
    forge.edit("vsa", lambda raw: raw["verificationMaterial"].pop("tlogEntries"))


@case(58, "an empty list of places in the log", "LOG_MISSING", "BUNDLE_SHAPE")
def _(forge: Forge) -> None:
    forge.edit("vsa", lambda raw: raw["verificationMaterial"].update(tlogEntries=[]))


@case(59, "the proof of another entry", "LOG_PROOF")
def _(forge: Forge) -> None:
    other = forge.bundle("oms").entries[0]
    entry(forge, lambda e: replace(e, hashes=other.hashes))


@case(59, "the entry of another attestation", "LOG_PROOF")
def _(forge: Forge) -> None:
    other = forge.bundle("oms").entries[0]
    entry(forge, lambda _: other)


@case(59, "another index", "LOG_PROOF")
def _(forge: Forge) -> None:
    entry(forge, lambda e: replace(e, index=e.index - 1))


@case(59, "two indices", "LOG_PROOF")
def _(forge: Forge) -> None:
    def two(raw: dict) -> None:
        raw["verificationMaterial"]["tlogEntries"][0]["logIndex"] = "0"

    forge.edit("vsa", two)


@case(59, "a hash too much", "LOG_PROOF")
def _(forge: Forge) -> None:
    entry(forge, lambda e: replace(e, hashes=(*e.hashes, b"\0" * 32)))


@case(59, "an index beyond the size", "LOG_PROOF")
def _(forge: Forge) -> None:
    entry(forge, lambda e: replace(e, index=e.size))


@case(59, "another size than the checkpoint", "LOG_PROOF")
def _(forge: Forge) -> None:
    entry(forge, lambda e: replace(e, size=e.size + 1))


@case(60, "a checkpoint by another key", "LOG_CHECKPOINT")
def _(forge: Forge) -> None:
    other = FileKeys(forge.folder / "theirs").signer("log")
    origin = log_origin(forge.keys)
    entry(forge, lambda e: replace(e, checkpoint=sign_checkpoint(Checkpoint(origin, e.size, e.root), other)))


@case(60, "a checkpoint of another origin", "LOG_CHECKPOINT")
def _(forge: Forge) -> None:
    signer = forge.keys.signer("log")
    entry(forge, lambda e: replace(e, checkpoint=sign_checkpoint(Checkpoint("log.example", e.size, e.root), signer)))


@case(60, "another log's id", "LOG_CHECKPOINT")
def _(forge: Forge) -> None:
    entry(forge, lambda e: replace(e, log_id=b"\0" * 32))


for _title, _bend in {
    "extension lines": lambda text: text.replace("\n\n", "\nmore\n\n", 1),
    "no signature": lambda text: text.split("\n\n")[0] + "\n",
    "a control character": lambda text: "\t" + text,
    "nothing": lambda text: "",
}.items():

    @case(60, f"a bent checkpoint: {_title}", "LOG_CHECKPOINT")
    def _(forge: Forge, bend=_bend) -> None:
        entry(forge, lambda e: replace(e, checkpoint=bend(e.checkpoint)))


@case(60, "two histories of one size", "LOG_FORK")
def _(forge: Forge) -> None:
    size = forge.bundle("vsa").entries[0].size
    forked = MemoryLog([b"another %d" % index for index in range(size - 1)])
    bundle = forge.bundle("provenance")
    unlogged = Bundle(bundle.hint, bundle.payload, bundle.signature)
    logged = forge.logged(unlogged, forge.keys.signer("build").public_pem, forked)
    forge.path("provenance").write_bytes(logged.to_json())


@case(61, "a checkpoint smaller than the one seen last", "LOG_ROLLBACK")
def _(forge: Forge) -> Verification:
    log, origin = forge.log, log_origin(forge.keys)
    seen, now = Checkpoint(origin, 8, log.root(8)), Checkpoint(origin, 5, log.root(5))
    return caught(lambda: check_growth(seen, now, ()))


@case(61, "no proof that the log continues", "LOG_ROLLBACK")
def _(forge: Forge) -> Verification:
    log, origin = forge.log, log_origin(forge.keys)
    seen, now = Checkpoint(origin, 5, log.root(5)), Checkpoint(origin, 8, log.root(8))
    return caught(lambda: check_growth(seen, now, log.consistency(4, 8)))


@case(61, "the same size with another root", "LOG_FORK")
def _(forge: Forge) -> Verification:
    seen = Checkpoint("log", 5, b"\0" * 32)
    return caught(lambda: check_growth(seen, Checkpoint("log", 5, b"\1" * 32), ()))


def witnessed(forge: Forge, *, quorum: int = 1, text=None, shift: int = 0, sign: bool = True) -> Verification:
    """Every checkpoint cosigned by one witness, as the case bends it."""
    signer = FileKeys(forge.folder / "witness").signer("log")
    key = NoteKey("witness.example", COSIGNATURE, ed25519_raw(signer.public_pem))
    time = int(AT.timestamp())

    def cosign(e: LogEntry) -> LogEntry:
        body = text or e.checkpoint.split("\n\n")[0] + "\n"
        signature = signer.sign(cosigned_bytes(body, time))
        line = signature_line(key, (time + shift).to_bytes(8, "big") + signature)
        return replace(e, checkpoint=e.checkpoint + line) if sign else e

    for name in ("oms", "vsa", "provenance", "bom", "audit-accuracy", "audit-lighting"):
        entry(forge, cosign, name)
    log = forge.trust.log.model_copy(update={"quorum": quorum, "witnesses": (key.vkey,)})
    return forge.verify(forge.trust.model_copy(update={"log": log}))


@case(62, "no witness", "WITNESS")
def _(forge: Forge) -> Verification:
    return witnessed(forge, sign=False)


@case(62, "one witness where two are needed", "WITNESS")
def _(forge: Forge) -> Verification:
    return witnessed(forge, quorum=2)


@case(62, "a cosignature of another checkpoint", "WITNESS")
def _(forge: Forge) -> Verification:
    return witnessed(forge, text="log.example\n1\nAAAA\n")


@case(62, "a cosignature with another time", "WITNESS")
def _(forge: Forge) -> Verification:
    return witnessed(forge, shift=3600)


def stamped(forge: Forge, stamp, *chain: str) -> Verification:
    """Every bundle with a timestamp, under a trust that asks for one."""
    for name in ("oms", "vsa", "provenance", "bom", "audit-accuracy", "audit-lighting"):
        bundle = forge.bundle(name)
        forge.path(name).write_bytes(replace(bundle, timestamps=(stamp(bundle),)).to_json())
    trust = forge.require(timestamp=True)
    return forge.verify(trust.model_copy(update={"timestamp_authorities": chain}))


@case(63, "no timestamp", "TIMESTAMP")
def _(forge: Forge) -> Verification:
    return forge.verify(forge.require(timestamp=True))


@case(63, "a timestamp over another message", "TIMESTAMP", needs="openssl")
def _(forge: Forge) -> Verification:
    authority = Authority(forge.folder / "tsa")
    return stamped(forge, lambda bundle: authority.stamp(b"another"), authority.chain)


@case(63, "an authority that nobody trusts", "TIMESTAMP", needs="openssl")
def _(forge: Forge) -> Verification:
    authority, other = Authority(forge.folder / "tsa"), Authority(forge.folder / "other-tsa")
    return stamped(forge, lambda bundle: authority.stamp(bundle.signature), other.chain)


@case(63, "a timestamp outside the validity of its authority", "TIMESTAMP", needs="openssl")
def _(forge: Forge) -> Verification:
    long_ago = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    authority = Authority(forge.folder / "tsa", since=long_ago, days=30)
    return stamped(forge, lambda bundle: authority.stamp(bundle.signature), authority.chain)


@case(63, "an authority whose certificate is not for time stamping", "TIMESTAMP", needs="openssl")
def _(forge: Forge) -> Verification:
    authority = Authority(forge.folder / "tsa")
    return stamped(forge, lambda bundle: authority.stamp(bundle.signature), authority.without_usage)


@case(63, "rubbish in the place of a timestamp", "TIMESTAMP")
def _(forge: Forge) -> Verification:
    return stamped(forge, lambda bundle: b"rubbish", "rubbish")
