"""Windows of keys: which of them counts for which part of the log.

The log's index is the clock.  A key that was retired counts for what was logged before; a key in foreign hands for
nothing from the index on at which that may have begun; a successor for nothing that was logged before it.
"""

from __future__ import annotations

from collections.abc import Iterable

from auditsvc.provenance.trust.trust_root import TrustedKey, TrustRoot
from auditsvc.records import Retirement


def with_retired(trust: TrustRoot, retirements: Iterable[Retirement]) -> TrustRoot:
    """The same trust, with retired keys in their windows, and each current key from the last retirement of its role on.

    A key that is retired and still in use counts as retired: nothing that it signs now verifies.
    """
    ended: dict[str, TrustedKey] = {}
    begin: dict[str, int] = {}
    for one in retirements:
        before = ended.get(one.pem) or TrustedKey.of(one.role, one.pem.encode())
        ended[one.pem] = _ended(before, one, begin.get(one.role, 0))
        begin[one.role] = max(begin.get(one.role, 0), one.log_size)
    current = (
        key.model_copy(update={"from_log_index": begin.get(key.role, 0)}) for key in trust.keys if key.pem not in ended
    )
    return trust.model_copy(update={"keys": (*current, *ended.values())})


def _ended(key: TrustedKey, one: Retirement, begin: int) -> TrustedKey:
    known = [index for index in (key.compromised_since, one.compromised_since) if index is not None]
    if one.log_size == 0:
        known.append(0)  # it was retired before anything was logged: nothing of it counts
    if key.not_after_log_index is None:
        key = key.model_copy(update={"from_log_index": begin, "not_after_log_index": max(one.log_size - 1, begin)})
    return key.model_copy(update={"compromised_since": min(known) if known else None})
