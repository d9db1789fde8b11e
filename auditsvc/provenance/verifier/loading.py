"""Loading what was verified: the bytes that were hashed are the bytes that are used.

A verifier that reads a file and a loader that opens it again leave a gap in which the file can change.
Here every file is read once; what is returned is that reading.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from auditsvc.errors import InvalidInput, NotVerified
from auditsvc.provenance.trust.trust_root import TrustRoot
from auditsvc.provenance.verifier.verify import examine
from auditsvc.records import Moment, Verification


@dataclass(frozen=True)
class VerifiedRelease:
    """The files of a valid release, in memory: name to bytes, and what the verification found."""

    files: dict[str, bytes]
    verification: Verification

    @property
    def weights(self) -> bytes:
        """The bytes of the one safetensors file; ``safetensors.torch.load`` reads them.

        Raises:
            InvalidInput: the release has none, or several.
        """
        found = [name for name in self.files if name.endswith(".safetensors")]
        if len(found) != 1:
            raise InvalidInput(f"the release has {len(found)} safetensors files; choose from .files")
        return self.files[found[0]]


def load_verified(
    folder: Path | str, *, trust: TrustRoot | Path | str, resource: str | None = None, at: Moment | None = None
) -> VerifiedRelease:
    """The files of the release in ``folder`` (with ``release/`` and ``attest/`` in it), if it is valid.

    ``trust`` is a trust root, or the path of one; ``resource`` the model version that is wanted.  All files
    are held in memory.

    Raises:
        NotVerified: anything but ``VALID``.
        InvalidInput, NotFound: the trust root can't be used.
        Unavailable: the disk can't be read.
    """
    root = trust if isinstance(trust, TrustRoot) else TrustRoot.load(Path(trust))
    moment = at or datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    files: dict[str, bytes] = {}
    found = examine(
        Path(folder) / "release",
        Path(folder) / "attest",
        trust=root,
        at=moment,
        resource=resource,
        keep=files.__setitem__,
    )
    verification = found.transcript.verification(moment)
    if verification.verdict != "VALID":
        reasons = (f"{step.step}: {step.code} {step.detail}" for step in verification.reasons)
        raise NotVerified(f"the release in {folder} is {verification.verdict} and is not loaded", reasons)
    return VerifiedRelease(files, verification)
