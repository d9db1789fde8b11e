"""Signed releases that anyone can verify offline, and the keys, log and revocations behind them.

A release is a folder of model files with attestations next to it.  All formats are standards, so that other tools read
them: an OpenSSF Model Signing (OMS) signature over the files; in-toto statements in Sigstore bundles (how the model was
made, what each check found, what it consists of, what was decided); for each of them an inclusion proof of a
transparency log (RFC 6962, C2SP); and TUF metadata that publishes the trusted keys and the revocations.

The parts, each of which imports only those above it
----------------------------------------------------
``formats``
    Bytes in, values out, with no opinion about trust.  ``strict_json`` and ``signatures`` parse what is foreign;
    ``dsse`` is the envelope and the Sigstore bundle, ``manifest`` lists the files (OMS), ``predicates`` and
    ``verification_summary`` are the statements, ``merkle_log`` and ``signed_note`` the log and its checkpoints,
    ``release_layout`` the file names of a release.
``trust``
    Which keys count, for what, and since when: ``trust_root`` (keys, roles, their validity in the log, the same for
    Sigstore's own clients, and the revocation list), ``tuf_repository`` and ``tuf_client`` (how that is published and
    fetched without a way to roll it back).
``verifier``
    ``verify`` runs every step and reports all of them; ``load_verified`` returns the bytes that were verified;
    ``verify_folder`` checks a plain OMS signature.  ``checks`` compares the attestations, the files and the
    decision, and ``verification_context`` checks each bundle and holds what was found so far.
``signer``
    ``attest`` signs a release or a rejection, ``checkpoints`` guards the log against a restored backup and cosigns
    the checkpoints of other logs.  The signer verifies its own output before it publishes it.

How a release is signed and verified
------------------------------------
1. ``sign_release`` writes records and statements into ``attest.partial``, signs each, appends each signature to the log
   and stores the inclusion proofs.  An interrupted run continues with the signatures it has.
2. It verifies the folder as a reader would, and only then renames it to ``attest``.
3. ``publish_trust`` publishes the trust policy and the revocations for readers, at least once a day.
4. A reader has a trust root from another source than the release, and asks ``verify``::

    trust = TrustRoot.load(Path("release.pub"))
    verification = verify(folder / "release", folder / "attest", trust=trust, at=now)
    verification.verdict     # VALID, INVALID, REVOKED or UNKNOWN, with every reason in .steps

No torch, no server, no database: the distribution ``auditsvc-verify`` contains this package and little else.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auditsvc.provenance.signer.attest import (
        ReleaseInputs,
        SigningServices,
        sign_folder,
        sign_rejection,
        sign_release,
    )
    from auditsvc.provenance.trust.trust_root import TrustRoot, publish_trust
    from auditsvc.provenance.verifier.verify import VerifiedRelease, load_verified, release_in, verify, verify_folder

_MODULES = {
    "ReleaseInputs": "signer.attest",
    "SigningServices": "signer.attest",
    "TrustRoot": "trust.trust_root",
    "VerifiedRelease": "verifier.verify",
    "load_verified": "verifier.verify",
    "publish_trust": "trust.trust_root",
    "release_in": "verifier.verify",
    "sign_folder": "signer.attest",
    "sign_rejection": "signer.attest",
    "sign_release": "signer.attest",
    "verify": "verifier.verify",
    "verify_folder": "verifier.verify",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: the ledger needs the Merkle tree alone, without any cryptography."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
