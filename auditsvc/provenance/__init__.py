"""How a stranger checks it all again: signed statements over a release, in a transparency log.

Nothing here is of our own invention but the order of the steps.  What leaves the house is an OMS v1.0
signature over the files; in-toto statements in Sigstore bundles (how it was made, what each check found,
what it consists of, what was decided); a proof for each that the log has it; and TUF metadata that says
which keys count and what was recalled.

The parts, from the bottom up
-----------------------------
strict, signatures, tlog, notes, dsse
    Bytes: JSON that is read one way only, ECDSA and Ed25519, the Merkle tree, checkpoints, envelopes.
manifest, oms, statements, bom, summary
    Words: which files there are, and what is said about them.
metadata, repository, recalls, timestamps, witness, trust, published, sigstore_root
    Belief: whom one trusts for what, how fresh that is, what was recalled.
attested, judging, examination, fitting, ancestry, transcript
    Judgement: whether each attestation holds, whether all fit together, and whether the parent holds too.
approved, attesting, sealing, verifying, loading, plain, publishing, fetching
    Verbs: ``seal`` makes a release, ``verify`` checks one, ``load_verified`` gives what was checked,
    ``publish_trust`` tells the world whom to trust and what was recalled.

>>> verification = verify(folder / "release", folder / "attest", trust=TrustRoot.load(key), at=now)  # doctest: +SKIP
>>> verification.verdict  # doctest: +SKIP
'VALID'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auditsvc.provenance.signer.attest import ReleaseInputs, SigningServices, sign_rejection, sign_release
    from auditsvc.provenance.signer.folder_signing import sign_folder, verify_folder
    from auditsvc.provenance.trust.trust_root import TrustRoot
    from auditsvc.provenance.trust.tuf_publish import publish_trust
    from auditsvc.provenance.verifier.loading import VerifiedRelease, load_verified
    from auditsvc.provenance.verifier.verify import release_in, verify

_MODULES = {
    "ReleaseInputs": "signer.attest",
    "SigningServices": "signer.attest",
    "TrustRoot": "trust.trust_root",
    "VerifiedRelease": "verifier.loading",
    "load_verified": "verifier.loading",
    "publish_trust": "trust.tuf_publish",
    "release_in": "verifier.verify",
    "sign_folder": "signer.folder_signing",
    "sign_rejection": "signer.attest",
    "sign_release": "signer.attest",
    "verify": "verifier.verify",
    "verify_folder": "signer.folder_signing",
}

__all__ = [
    "ReleaseInputs",
    "SigningServices",
    "TrustRoot",
    "VerifiedRelease",
    "load_verified",
    "publish_trust",
    "release_in",
    "sign_folder",
    "sign_rejection",
    "sign_release",
    "verify",
    "verify_folder",
]


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: the ledger needs the Merkle tree alone, without any cryptography."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
