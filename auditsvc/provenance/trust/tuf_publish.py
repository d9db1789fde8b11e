"""Publishing whom to trust and what was recalled, for readers who come back."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from auditsvc.ports import Keys
from auditsvc.provenance.formats.release_layout import REVOCATIONS, TRUST_POLICY
from auditsvc.provenance.trust.recalls import Recalls, recalls_of
from auditsvc.provenance.trust.trust_root import TrustRoot
from auditsvc.provenance.trust.tuf_repository import TufRoles, publish
from auditsvc.records import Moment, Release, Revocation


def publish_trust(
    folder: Path,
    revoked: Iterable[tuple[Revocation, Release]],
    *,
    keys: Keys,
    at: Moment,
    trust: TrustRoot | None = None,
    offices: TufRoles | None = None,
) -> Recalls:
    """Publish the next version of the trust repository (TUF) in ``folder``, with all recalls so far.

    Readers give ``TrustRoot.from_repository`` that folder, or a copy of it, and the release key.  It must be
    published again at least once a day, or readers find it stale and say ``UNKNOWN``.  ``trust`` is the policy
    where keys were retired or compromised; ``offices`` says who signs metadata, by default the release key.

    Raises:
        Unavailable: the disk or the keys failed; readers see the version before.
    """
    found = (recall for revocation, release in revoked for recall in recalls_of(revocation, release))
    recalls = Recalls(issued=at, recalls=tuple(sorted(found, key=lambda recall: (recall.at, recall.subject))))
    policy = trust or TrustRoot.of_keys(keys)
    targets = {TRUST_POLICY: policy.to_json(), REVOCATIONS: recalls.to_json()}
    publish(folder, targets, offices or TufRoles.all_by(keys.signer("release")), at)
    return recalls
