"""Which images were used for what: the evaluations of a model on them, and what calibrated or trained its candidates.

Images are known by the content of their pixels, so that copying them into another data set, in another order or next to
others, changes nothing.  A data set is indexed once; its index is a record and a blob.  It imports no torch, and numpy
only where digests are compared, because pages need it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, cast, get_args

from auditsvc.errors import InvalidInput
from auditsvc.ports import Context, View
from auditsvc.records import Candidate, Decision, Digest, Evidence, Parent, Policy
from auditsvc.records.data_card import Consent, ended
from auditsvc.records.eligibility import DatasetImages, HoldoutUse, HoldoutUses, ImagesSeen, Purpose, holdout_key
from auditsvc.records.model import answering_files

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from auditsvc.datasets import Dataset


def index_images(ctx: Context, dataset: Dataset) -> DatasetImages:
    """The index of a data set's images, from the ledger or in one pass over them.

    Raises:
        InvalidDataset: an image that can't be read.
    """
    import numpy as np

    for known in ctx.ledger.find(DatasetImages, dataset.ref.digest):
        blobs = (known.digests, known.groups, known.thumbnails)
        if known.unusable is not None and all(one and ctx.blobs.has(one) for one in blobs):
            return known
    from auditsvc.datasets.copies import fingerprints, image_groups, name_digests
    from auditsvc.datasets.slicing import subjects_of

    with ctx.progress.step("index the images", dataset.ref.images) as tick:
        found = fingerprints(dataset, tick)
    groups, near = image_groups(found.digests, found.thumbnails)
    subjects = subjects_of(dataset)
    made = DatasetImages(
        dataset=dataset.ref.digest,
        name=dataset.ref.name,
        images=len(found.digests),
        distinct=len(np.unique(groups)),
        digests=ctx.blobs.put(found.digests.astype("<u8").tobytes()),
        thumbnails=ctx.blobs.put(found.thumbnails.tobytes()),
        groups=ctx.blobs.put(groups.astype("<u8").tobytes()),
        near=near,
        unusable=sum(map(len, found.unusable.values())),
        clusters=None if subjects is None else ctx.blobs.put(name_digests(subjects).astype("<u8").tobytes()),
        at=ctx.clock.now(),
    )
    ctx.ledger.append(made, actor="auditsvc")
    return made


def digests_in(ctx: Context, index: DatasetImages) -> NDArray[np.uint64]:
    """``(N,)``: the digest of each image, in the order of the data set."""
    return numbers_in(ctx, index.digests)


def numbers_in(ctx: Context, blob: Digest) -> NDArray[np.uint64]:
    """The 64-bit numbers of a blob."""
    import numpy as np

    return np.frombuffer(ctx.blobs.read(blob), "<u8").astype(np.uint64)


def count_copies_once(ctx: Context, dataset: Dataset) -> Dataset:
    """The data set with equal and nearly equal images in one cluster, so that a copy adds nothing to what is known;
    itself without any.  Where many are nearly equal, there are probably more that belong together.

    Raises:
        InvalidDataset: an image that can't be read.
    """
    index = index_images(ctx, dataset)
    if index.distinct == index.images or index.groups is None:
        return dataset
    from auditsvc.datasets.copies import FEWEST, SHARE, with_copies

    copies, near = index.images - index.distinct, index.near or 0
    ctx.progress.say(f"{copies} of {index.images} images are copies or nearly; what is one image counts once")
    many = near >= max(FEWEST, SHARE * index.images)
    suspected = (f"{near} of {index.images} images nearly equal another one",) if many else ()
    return with_copies(dataset, numbers_in(ctx, index.groups), suspected)


def record_holdout_use(ctx: Context, candidate: Candidate, dataset: Digest) -> None:
    """Record that this candidate is judged on the images of this data set, before it is measured; once."""
    uses = ctx.ledger.find(HoldoutUse, holdout_key(dataset, candidate.model))
    if any(use.candidate == candidate.digest for use in uses):
        return
    made = HoldoutUse(
        dataset=dataset,
        model=candidate.model,
        candidate=candidate.digest,
        overlaps=_overlaps(ctx, dataset) or None,
        at=ctx.clock.now(),
    )
    ctx.ledger.append(made, actor="auditsvc")


def _overlaps(ctx: Context, dataset: Digest) -> dict[Digest, float]:
    """The other indexed data sets that hold some of these images, or nearly equal ones: which share of these."""
    own = ctx.ledger.find(DatasetImages, dataset)
    if not own:
        return {}
    others = {one.dataset: one for one in ctx.ledger.all(DatasetImages) if one.dataset != dataset}
    shares = {name: len(_shared(ctx, own[-1], one)) / own[-1].images for name, one in others.items()}
    return {name: share for name, share in shares.items() if share}


def level_for(policy: Policy, candidate: Candidate, dataset: Digest, ledger: View) -> float:
    """The alpha of each interval of this candidate's evidence on these images."""
    return policy.level_of(_ordinal(policy, candidate, dataset, ledger))


def holdout_uses(policy: Policy, candidate: Candidate, datasets: Iterable[Digest], ledger: View) -> HoldoutUses:
    """For each data set the ordinal of this candidate; an earlier one on a part of the images counts as that part.

    Those that were approved without a waiver, under this policy and before this candidate was measured, don't count.
    """
    return {one: _ordinal(policy, candidate, one, ledger) for one in sorted(set(datasets))}


def _ordinal(policy: Policy, candidate: Candidate, dataset: Digest, ledger: View) -> int:
    uses = _uses_of_line(candidate, dataset, ledger)
    own = next((use for use in uses if use.candidate == candidate.digest), None)
    before = [(use, 1.0) for use in uses[: uses.index(own) if own else None]]
    for other, share in ((own and own.overlaps) or {}).items():
        found = _uses_of_line(candidate, other, ledger)
        before += [(use, share) for use in found if own and use.at <= own.at and use.candidate != candidate.digest]
    counted: dict[Digest, float] = {}
    for use, share in before:
        if not _returned(policy, use, own, ledger):
            counted[use.candidate] = max(counted.get(use.candidate, 0.0), share)
    return 1 + math.ceil(sum(counted.values()) - 1e-9)


def _uses_of_line(candidate: Candidate, dataset: Digest, ledger: View) -> list[HoldoutUse]:
    """The evaluations on these images of the candidate's model, and of what has the same parent under another name."""

    @cache
    def parent_of(digest: Digest) -> frozenset[Digest]:
        return answering_files(ledger.get(Parent, digest).files)

    def same(use: HoldoutUse) -> bool:
        if use.model == candidate.model:
            return True
        other = ledger.get(Candidate, use.candidate).parent
        return not parent_of(candidate.parent).isdisjoint(parent_of(other))

    return [use for use in ledger.find(HoldoutUse, dataset) if same(use)]


def _returned(policy: Policy, use: HoldoutUse, own: HoldoutUse | None, ledger: View) -> bool:
    """Whether the evaluation returned its share of alpha: approved without a waiver when ``own`` was recorded."""
    decisions = [
        one
        for one in ledger.find(Decision, f"{use.candidate}|{policy.digest}")
        if (own is None or one.at <= own.at)
        and one.evidence
        and ledger.get(Evidence, one.evidence[0]).key.dataset == use.dataset
    ]
    return bool(decisions) and decisions[-1].outcome == "approved" and not decisions[-1].waivers


def purpose_named(name: str) -> Purpose:
    """Raises ``InvalidInput`` for what is none."""
    for known in get_args(Purpose):
        if known == name:
            return cast(Purpose, known)
    raise InvalidInput(f"images are used for {', '.join(get_args(Purpose))}, not for {name!r}")


def record_images_seen(
    ctx: Context, model: Digest, dataset: Dataset, purpose: Purpose, actor: str = "auditsvc"
) -> None:
    """Record that a candidate or parent was made with these images."""
    known = {(seen.dataset, seen.purpose) for seen in ctx.ledger.find(ImagesSeen, model)}
    index = index_images(ctx, dataset)
    if (index.dataset, purpose) not in known:
        made = ImagesSeen(model=model, dataset=index.dataset, purpose=purpose, at=ctx.clock.now())
        ctx.ledger.append(made, actor=actor)


def images_seen_by(ctx: Context, candidate: Candidate) -> list[ImagesSeen]:
    """Which data sets made the candidate and its parent, as far as the ledger knows."""
    return [one for model in (candidate.digest, candidate.parent) for one in ctx.ledger.find(ImagesSeen, model)]


def inherit_images_seen(ctx: Context, original: Candidate, copy: Candidate) -> None:
    """A copy was made with the images that its original was made with."""
    seen = ctx.ledger.find(ImagesSeen, original.digest)
    for one in seen:
        ctx.ledger.append(one.model_copy(update={"model": copy.digest}), actor="auditsvc")


def require_unseen(ctx: Context, candidate: Candidate, dataset: Dataset) -> None:
    """Refuse to audit on images that the candidate or its parent was made with, as far as the ledger knows.

    Raises:
        InvalidInput: there are such images; it names how many, from which data set, and what they were used for.
    """
    seen = images_seen_by(ctx, candidate)
    if not seen:
        return
    mine, reasons = index_images(ctx, dataset), []
    for use in seen:
        for index in ctx.ledger.find(DatasetImages, use.dataset)[-1:]:
            shared = _shared(ctx, mine, index)
            names = ", ".join(dataset.name_of(int(place)) for place in shared[:3])
            whose = "candidate" if use.model == candidate.digest else "parent"
            if len(shared):
                reasons.append(
                    f"{len(shared)} of {mine.images} images ({names}{', ...' if len(shared) > 3 else ''}) are in "
                    f"{index.name}, which was used for {use.purpose} of the {whose}"
                )
    if reasons:
        why = f"{dataset.ref.name} can't be audited on: a model is never tested on images that made it; leave them out"
        raise InvalidInput(why, dict.fromkeys(reasons))


def covered_by(ctx: Context, index: DatasetImages, consents: Iterable[str]) -> NDArray[np.int64]:
    """The places of images that these consents are of: ``image:`` and a digest, or ``subject:`` and a cluster."""
    import numpy as np

    from auditsvc.datasets.copies import name_digests

    parts = [one.partition(":")[::2] for one in consents]
    images = np.array([int(word, 16) for kind, word in parts if kind == "image"], np.uint64)
    found = np.isin(digests_in(ctx, index), images)
    if index.clusters is not None:
        subjects = name_digests([word for kind, word in parts if kind == "subject"])
        found |= np.isin(numbers_in(ctx, index.clusters), subjects)
    return np.flatnonzero(found)


def require_consent(ctx: Context, dataset: Dataset) -> None:
    """Refuse images whose consent was withdrawn or has ended.

    Raises:
        InvalidInput: there are such images; it names how many, and the first ones.
    """
    over = ended(ctx.ledger.all(Consent), ctx.clock.now().date())
    found = covered_by(ctx, index_images(ctx, dataset), over) if over else ()
    if len(found):
        names = ", ".join(dataset.name_of(int(place)) for place in found[:3])
        raise InvalidInput(
            f"the consent for {len(found)} of {dataset.ref.images} images of {dataset.ref.name} was withdrawn or has "
            f"ended ({names}{', ...' if len(found) > 3 else ''}); leave them out"
        )


def images_not_recorded(view: View, candidate: Candidate) -> tuple[str, ...]:
    """What ``require_unseen`` could not look at: images that trained the parent, or made a candidate elsewhere."""
    parent, own = (bool(view.find(ImagesSeen, model)) for model in (candidate.parent, candidate.digest))
    lacking = [] if parent else ["trained the parent"]
    lacking += [] if own or candidate.recipe else ["made this candidate, which was pruned elsewhere"]
    words = "It is not recorded which images {} (`auditsvc data used`): they may be among those that are audited"
    return (words.format(" or ".join(lacking)),) if lacking else ()


def _shared(ctx: Context, mine: DatasetImages, other: DatasetImages) -> NDArray[np.int64]:
    """The places of the images that the other data set holds too: equal ones, and where thumbnails are here nearly
    equal ones."""
    import numpy as np

    equal = np.flatnonzero(np.isin(digests_in(ctx, mine), digests_in(ctx, other)))
    if mine.thumbnails is None or other.thumbnails is None:
        return equal
    from auditsvc.datasets.copies import near_pairs, thumbnails_from

    ours, theirs = (thumbnails_from(ctx.blobs.read(one.thumbnails or ""), one.images) for one in (mine, other))
    return np.union1d(equal, near_pairs(ours, theirs)[0])
