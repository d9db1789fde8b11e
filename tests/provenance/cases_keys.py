"""Cases 15 to 23: keys and signatures."""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from auditsvc.adapters.file_keys import FileKeys
from auditsvc.provenance.formats.dsse import hint_of
from auditsvc.records import Verification
from tests.provenance.cases import case
from tests.provenance.forge import Forge


@case(15, "a key that nobody trusts", "UNKNOWN_KEY")
def _(forge: Forge) -> None:
    payload = forge.bundle("vsa").payload
    theirs, ours = FileKeys(forge.folder / "theirs"), forge.keys
    forge.keys = theirs
    forge.store("vsa", payload)
    forge.keys = ours


@case(16, "the hint of one trusted key, the signature of another", "BAD_SIGNATURE")
def _(forge: Forge) -> None:
    hint = hint_of(forge.keys.signer("release").public_pem)
    forge.store("vsa", forge.bundle("vsa").payload, by="audit")
    forge.edit("vsa", lambda raw: raw["verificationMaterial"]["publicKey"].update(hint=hint))


@case(17, "the audit key signs the decision", "ROLE")
def _(forge: Forge) -> None:
    forge.store("vsa", forge.bundle("vsa").payload, by="audit")


@case(18, "the release key signs how the model was made", "ROLE")
def _(forge: Forge) -> None:
    forge.store("provenance", forge.bundle("provenance").payload, by="release")


def _pem(key) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


for _title, _new in {
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}.items():

    @case(19, f"an {_title} key in the policy", "KEY_TYPE")
    def _(forge: Forge, new=_new) -> Verification:
        return forge.verify(forge.trusting("build", _pem(new())))


@case(19, "a signature with SHA-512", "BAD_SIGNATURE")
def _(forge: Forge) -> None:
    bundle = forge.bundle("vsa")
    signer = forge.keys.signer("release")
    forge.store("vsa", bundle.payload, signature=signer.key.sign(bundle.signed_bytes, ec.ECDSA(hashes.SHA512())))


@case(20, "a key that was retired before", "KEY_WINDOW")
def _(forge: Forge) -> Verification:
    index = forge.bundle("provenance").entries[0].index
    return forge.verify(forge.swap_key("build", not_after_log_index=index - 1))


@case(20, "a key that did not count yet", "KEY_WINDOW")
def _(forge: Forge) -> Verification:
    index = forge.bundle("provenance").entries[0].index
    return forge.verify(forge.swap_key("build", from_log_index=index + 1))


@case(21, "a key that was compromised before", "KEY_COMPROMISED")
def _(forge: Forge) -> Verification:
    index = forge.bundle("provenance").entries[0].index
    return forge.verify(forge.swap_key("build", compromised_since=index))


@case(22, "a compromised key, and no place in the log", "KEY_COMPROMISED", "LOG_MISSING")
def _(forge: Forge) -> Verification:
    forge.edit("provenance", lambda raw: raw["verificationMaterial"].pop("tlogEntries"))
    return forge.verify(forge.swap_key("build", compromised_since=10**6))


def _der(*integers: bytes) -> bytes:
    body = b"".join(b"\x02" + bytes([len(value)]) + value for value in integers)
    return b"\x30" + bytes([len(body)]) + body


def _big(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 8) // 8, "big")


for _title, _bend in {
    "a leading zero": lambda r, s: _der(b"\0" + _big(r), _big(s)),
    "a negative integer": lambda r, s: _der(_big(r), b"\xff" + _big(s)),
    "r is zero": lambda r, s: _der(b"\0", _big(s)),
    "s plus the order": lambda r, s: _der(_big(r), _big(s + ORDER)),
    "text after the end": lambda r, s: _der(_big(r), _big(s)) + b"\0",
    "no DER": lambda r, s: r.to_bytes(32, "big") + s.to_bytes(32, "big"),
}.items():

    @case(23, f"a bent signature: {_title}", "BAD_SIGNATURE")
    def _(forge: Forge, bend=_bend) -> None:
        bundle = forge.bundle("vsa")
        r, s = decode_dss_signature(bundle.signature)
        forge.store("vsa", bundle.payload, signature=bend(r, s))


ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
