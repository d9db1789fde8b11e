"""A plain OMS signature over a folder: what peers make, and what a parent may come with.

It says which bytes a key stood for, and nothing of why.  ``model-signing`` verifies what ``sign_folder``
makes; ``verify_folder`` reads what ``model-signing`` makes, but stricter: nothing is exempt, not even
``.git``, except the signature itself where it lies in the folder.

Reference: OpenSSF (2026), "Model Signing Specification" v1.0.
"""

from __future__ import annotations

from pathlib import Path

from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.ports import Signer
from auditsvc.provenance.formats.dsse import Bundle
from auditsvc.provenance.formats.manifest import Folder, differences, read_folder
from auditsvc.provenance.formats.oms import OMS_TYPE, resources_of
from auditsvc.provenance.formats.predicates import folder_statement
from auditsvc.provenance.formats.signatures import hint_of
from auditsvc.provenance.formats.strict_json import MAX_BYTES, Fault
from auditsvc.provenance.trust.trust_root import TrustRoot
from auditsvc.provenance.verifier.attestation import open_attestation
from auditsvc.provenance.verifier.examination import VerificationReport
from auditsvc.records import Moment, Verification


def sign_folder(folder: Path, signer: Signer, name: str) -> bytes:
    """The signature (a Sigstore bundle) over every file of a folder, under this name.

    Raises:
        InvalidInput: an empty folder, or something in it that cannot be signed: links, pipes, bad names.
        Unavailable: the disk can't be read.
    """
    found = read_folder(folder)
    if found.faults or not found.files:
        reasons = [str(fault) for fault in found.faults] or ["there is no file in it"]
        raise InvalidInput(f"{folder} cannot be signed", reasons)
    unsigned = Bundle(hint_of(signer.public_pem), folder_statement(name, found.files), b"")
    return Bundle(unsigned.hint, unsigned.payload, signer.sign(unsigned.signed_bytes)).to_json()


def verify_folder(
    folder: Path, signature: Path, *, trust: TrustRoot, at: Moment, old_keys: bool = False
) -> Verification:
    """Whether the folder holds exactly the files that a trusted release key signed.

    ``old_keys`` reads bundles that carry their key instead of its hint (``model-signing`` before 1.1); the
    key must be trusted all the same.

    Raises:
        Unavailable: the disk can't be read.
    """
    transcript = VerificationReport()
    found = _without(read_folder(folder), folder, signature)
    own = (signature.name,) if signature.parent.resolve() == folder.resolve() else ()
    with transcript.step("signature") as seen:
        attested = open_attestation("oms", Bundle.parse(_bytes_of(signature), old_keys), trust, OMS_TYPE)
        seen.detail = f"by the {attested.key.role} key {attested.key.hint[:16]}..."
        with transcript.step("manifest"):
            listed = resources_of(attested.statement.subject, attested.statement.predicate, own)
            wrong = (*found.faults, *differences(listed, found.files))
            transcript.failed("files", wrong)
            if not wrong:
                transcript.held("files", f"{len(found.files)} files")
    transcript.note("A signature alone: nothing is known of how the model was made, what it was checked for, or when.")
    return transcript.verification(at)


def _without(found: Folder, folder: Path, signature: Path) -> Folder:
    """The folder without the signature, where that lies at its top."""
    if signature.parent.resolve() != folder.resolve():
        return found
    return Folder(tuple(file for file in found.files if file.name != signature.name), found.faults)


def _bytes_of(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Fault("TOO_LARGE", f"{path.name} has more than {MAX_BYTES} bytes")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise Fault("MISSING_ATTESTATION", f"{path.name} is not there") from error
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}") from error
