"""How a stranger checks it all again: signed statements over a release, in a transparency log.

Nothing here is of our own invention but the order of the steps.  What leaves the house is an OMS v1.0
signature over the files, in-toto statements in Sigstore bundles (how it was made, what each check found,
what was decided), and a proof for each that the log has it.

The parts, from the bottom up
-----------------------------
strict, signatures, tlog, notes, dsse
    Bytes: JSON that is read one way only, ECDSA and Ed25519, the Merkle tree, checkpoints, envelopes.
manifest, oms, statements, summary
    Words: which files there are, and what is said about them.
trust, attested, judging, transcript
    Belief: whom one trusts for what, whether one attestation holds, whether all fit together.
approved, sealing, verifying
    Verbs: ``seal`` makes a release and ``verify`` checks one; both use all of the above.

>>> verification = verify(folder / "release", folder / "attest", trust=TrustRoot.load(key), at=now)  # doctest: +SKIP
>>> verification.verdict  # doctest: +SKIP
'VALID'
"""

from auditsvc.provenance.approved import Sealing
from auditsvc.provenance.sealing import seal
from auditsvc.provenance.trust import TrustRoot
from auditsvc.provenance.verifying import verify

__all__ = ["Sealing", "TrustRoot", "seal", "verify"]
