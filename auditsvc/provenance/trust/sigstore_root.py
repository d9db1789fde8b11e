"""Our log and authorities as a Sigstore ``trusted_root.json``, so that Sigstore's own clients can use them.

Reference: sigstore (2024), protobuf-specs, "sigstore_trustroot.proto".
"""

from __future__ import annotations

import base64
from typing import Any

from auditsvc.errors import InvalidInput
from auditsvc.provenance.formats.signatures import ed25519_der
from auditsvc.provenance.formats.signed_note import NoteKey
from auditsvc.provenance.formats.strict_json import base64_of
from auditsvc.provenance.trust.trust_root import TrustRoot
from auditsvc.records import canonical_json

_ALWAYS = {"start": "1970-01-01T00:00:00Z"}


def trusted_root(trust: TrustRoot) -> bytes:
    """The file, in JSON; keys of statements are not part of it, clients are given those by hand.

    Raises:
        InvalidInput: the trust names no log.
    """
    if trust.log is None:
        raise InvalidInput("a trusted root for Sigstore needs a log; give a trust policy, not a release key alone")
    key = NoteKey.parse(trust.log.vkey)
    log = {
        "baseUrl": f"https://{trust.log.origin}",
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": base64_of(ed25519_der(key.raw)),
            "keyDetails": "PKIX_ED25519",
            "validFor": _ALWAYS,
        },
        "logId": {"keyId": base64_of(key.full_id)},
    }
    return canonical_json(
        {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log],
            "certificateAuthorities": [],
            "ctlogs": [],
            "timestampAuthorities": [_authority(chain) for chain in trust.timestamp_authorities],
        }
    )


def _authority(chain: str) -> dict[str, Any]:
    blocks = [block.partition("-----END")[0] for block in chain.split("-----BEGIN CERTIFICATE-----")[1:]]
    certificates = [{"rawBytes": base64_of(base64.b64decode(block))} for block in blocks]
    return {"subject": {}, "certChain": {"certificates": certificates}, "validFor": _ALWAYS}
