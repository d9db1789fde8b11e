"""An audit as shards: some checks on one part of every pass, measured anywhere, put together in one place.

The plan depends on the candidate, the policy and the data set, never on who works; and the evidence does not depend
on the plan (see ``measuring.parts``).  What a shard found is kept as a blob, so that a worker that dies loses the
shard that it was at, and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

from auditsvc.checks import check_named
from auditsvc.errors import Conflict
from auditsvc.measuring import Check, Dataset
from auditsvc.measuring.parts import Found, Part, as_bytes, from_bytes, put_together
from auditsvc.pipeline.auditing import known_evidence, measure_part
from auditsvc.pipeline.planning import sliced_for
from auditsvc.ports import Ports, Result
from auditsvc.records import Candidate, Policy, Shard

SHARD_WORK = 40_000
"""Images that go through the models in one shard, roughly: a dead worker loses less than a minute or two."""

_BATCH = 32


def shards_of(
    candidate: Candidate, policy: Policy, dataset: Dataset, ports: Ports, whose: tuple[str, str], work: int = SHARD_WORK
) -> tuple[Shard, ...]:
    """The shards of what is not measured yet; none where there is too little to share, or where stages decide how much.

    ``whose`` is the job and the name of the data set.  Checks that make one pass share it, in one shard.
    """
    if policy.stages:
        return ()
    known = known_evidence(candidate, policy, sliced_for(policy, dataset), ports)
    missing = {name: check_named(name, policy.checks[name]) for name, found in known.items() if found is None}
    made = tuple(
        Shard(
            job=whose[0],
            data=whose[1],
            candidate=candidate.digest,
            policy=policy.digest,
            dataset=dataset.ref.digest,
            checks=tuple(group),
            part=part,
            parts=parts,
        )
        for group in _groups(missing)
        for parts in [_parts([missing[name] for name in group], dataset.ref.images, work)]
        for part in range(parts)
    )
    return made if len(made) > 1 else ()


def _groups(checks: dict[str, Check]) -> Iterator[list[str]]:
    """Cheap checks together, every other alone; checks that put nothing before the models are not shared out."""
    working = {name: check for name, check in checks.items() if check.conditions()}
    cheap = [name for name, check in working.items() if check.cost() <= 1]
    if cheap:
        yield cheap
    yield from ([name] for name in working if name not in cheap)


def _parts(checks: Sequence[Check], images: int, work: int) -> int:
    """So many that each has about the same work, but no more than there are batches."""
    tried = max(min(images, getattr(check, "images", images)) for check in checks)
    most = math.ceil(tried / _BATCH)
    return max(1, min(most, math.ceil(max(check.work(images) for check in checks) / work)))


def measure(shard: Shard, dataset: Dataset, ports: Ports) -> Result:
    """Measure one shard and keep what was found as a blob.

    Raises:
        Conflict: the data set is not the one that was planned for.
    """
    if dataset.ref.digest != shard.dataset:
        raise Conflict(f"the data set {shard.data} was changed while the job ran; ask for a new audit")
    candidate, policy = ports.ledger.get(Candidate, shard.candidate), ports.ledger.get(Policy, shard.policy)
    part = Part(shard.part, shard.parts)
    return {"answers": ports.blobs.put(as_bytes(measure_part(candidate, policy, dataset, ports, shard.checks, part)))}


def gathered(shards: Sequence[Shard], results: Sequence[Result], ports: Ports) -> Found:
    """What all shards found, put together."""
    found: Found = {}
    both = zip(shards, results, strict=True)
    for _, group in groupby(both, key=lambda pair: pair[0].checks):
        found |= put_together([from_bytes(ports.blobs.read(result["answers"])) for _, result in group])
    return found
