"""Cases 1 to 14: envelopes."""

from __future__ import annotations

import base64

from auditsvc.provenance.formats.dsse import MEDIA_TYPE
from tests.provenance.cases import case
from tests.provenance.forge import Forge, b64


@case(1, "no signature", "SIG_COUNT")
def _(forge: Forge) -> None:
    forge.edit("vsa", lambda raw: raw["dsseEnvelope"].update(signatures=[]))


@case(2, "a second signature", "SIG_COUNT")
def _(forge: Forge) -> None:
    forge.edit("vsa", lambda raw: raw["dsseEnvelope"]["signatures"].append({"sig": b64(b"bogus"), "keyid": ""}))


@case(3, "the envelope replaced by a message signature", "BUNDLE_SHAPE")
def _(forge: Forge) -> None:
    def strip(raw: dict) -> None:
        envelope = raw.pop("dsseEnvelope")
        raw["messageSignature"] = {"signature": envelope["signatures"][0]["sig"]}

    forge.edit("vsa", strip)


@case(4, "another payload type", "PAYLOAD_TYPE")
def _(forge: Forge) -> None:
    forge.edit("vsa", lambda raw: raw["dsseEnvelope"].update(payloadType="application/json"))


@case(5, "a byte of the payload flipped", "BAD_SIGNATURE")
def _(forge: Forge) -> None:
    payload = bytearray(forge.bundle("vsa").payload)
    payload[100] ^= 1
    forge.edit("vsa", lambda raw: raw["dsseEnvelope"].update(payload=b64(bytes(payload))))


@case(6, "a signature over the payload without its encoding", "BAD_SIGNATURE")
def _(forge: Forge) -> None:
    payload = forge.bundle("vsa").payload
    forge.store("vsa", payload, signature=forge.keys.signer("release").sign(payload))


@case(7, "a signature over the broken encoding of model-signing 0.2", "BAD_SIGNATURE")
def _(forge: Forge) -> None:
    payload = forge.bundle("vsa").payload
    kind = "application/vnd.in-toto+json"
    encoded = f"DSSEV1 {len(kind)} {kind} {len(payload)} {payload!r}".encode()
    forge.store("vsa", payload, signature=forge.keys.signer("release").sign(encoded))


for _media in (
    "application/vnd.dev.sigstore.bundle+json;version=0.1",
    "application/vnd.dev.sigstore.bundle+json;version=0.2",
    "application/vnd.dev.sigstore.bundle+json;version=0.3",
    "application/vnd.dev.sigstore.bundle.v0.4+json",
    MEDIA_TYPE.upper(),
):

    @case(8, f"the media type {_media}", "MEDIA_TYPE")
    def _(forge: Forge, media: str = _media) -> None:
        forge.edit("vsa", lambda raw: raw.update(mediaType=media))


@case(9, "a key twice in the bundle", "JSON_DUP_KEY")
def _(forge: Forge) -> None:
    data = forge.path("vsa").read_bytes()
    forge.path("vsa").write_bytes(data.replace(b'{"dsse', b'{"mediaType":"x","dsse', 1))


@case(9, "a key twice in the payload", "JSON_DUP_KEY")
def _(forge: Forge) -> None:
    payload = forge.bundle("vsa").payload
    forge.store("vsa", payload.replace(b'"verificationResult"', b'"verificationResult":"FAILED","verificationResult"'))


for _title, _spoil in {
    "NaN": lambda data: data.replace(b'"integratedTime":"0"', b'"integratedTime":NaN'),
    "infinity": lambda data: data.replace(b'"integratedTime":"0"', b'"integratedTime":1e999'),
    "text after the end": lambda data: data + b"{}",
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "not UTF-8": lambda data: data.replace(b"hint", b"h\xffnt"),
    "UTF-16": lambda data: data.decode().encode("utf-16"),
    "half a surrogate": lambda data: data.replace(b'"hint":"', b'"hint":"\\ud800'),
    "a bomb of brackets": lambda data: b"[" * 200_000,
    "a bomb of digits": lambda data: data.replace(b'"integratedTime":"0"', b'"integratedTime":' + b"9" * 5000),
    "nothing": lambda data: b"",
}.items():

    @case(10, f"bad JSON: {_title}", "JSON_BAD")
    def _(forge: Forge, spoil=_spoil) -> None:
        forge.path("vsa").write_bytes(spoil(forge.path("vsa").read_bytes()))


for _title, _recode in {
    "the URL alphabet": lambda data: base64.urlsafe_b64encode(b"\xfb\xff\xfe" + data).decode(),
    "no padding": lambda data: b64(data + b" " * ((1 - len(data)) % 3)).rstrip("="),
    "white space": lambda data: b64(data)[:8] + "\n" + b64(data)[8:],
    "stray bits": lambda data: b64(data + b" " * ((1 - len(data)) % 3))[:-3] + "B==",
    "a number": lambda data: 7,
}.items():

    @case(11, f"bad base64: {_title}", "B64_BAD")
    def _(forge: Forge, recode=_recode) -> None:
        payload = forge.bundle("vsa").payload
        forge.edit("vsa", lambda raw: raw["dsseEnvelope"].update(payload=recode(payload)))


@case(12, "a bundle of 33 MiB", "TOO_LARGE", "MISSING_ATTESTATION")
def _(forge: Forge) -> None:
    with forge.path("vsa").open("ab") as file:
        file.truncate(33 << 20)


@case(13, "a key in the bundle, and no hint", "UNKNOWN_KEY")
def _(forge: Forge) -> None:
    key = {"hint": "", "rawBytes": b64(forge.keys.signer("release").public_pem)}
    forge.edit("vsa", lambda raw: raw["verificationMaterial"].update(publicKey=key))


for _material in ("certificate", "x509CertificateChain"):

    @case(14, f"a {_material} in the place of the key", "METHOD_NOT_ALLOWED")
    def _(forge: Forge, material: str = _material) -> None:
        forge.edit("vsa", lambda raw: raw["verificationMaterial"].update({material: {"rawBytes": b64(b"x")}}))
