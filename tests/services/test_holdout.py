"""Evaluations are counted by images and by what came of them; copies count once; images that made one are refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from auditsvc.datasets.copies import fingerprints, with_copies
from auditsvc.datasets.prediction_table import PredictedDataset, read_predictions
from auditsvc.errors import InvalidInput
from auditsvc.records import Submission, Waiver
from auditsvc.records.eligibility import DatasetImages, HoldoutUse, ImagesSeen
from auditsvc.services.decisions import judge
from auditsvc.services.holdout import (
    count_copies_once,
    holdout_uses,
    images_not_recorded,
    index_images,
    inherit_images_seen,
    purpose_named,
    record_holdout_use,
    record_images_seen,
    require_unseen,
)
from tests.contracts.sample import a_candidate, a_digest, a_parent
from tests.fakes import NOON
from tests.gate.sample import SHOES, a_loss, a_policy, an_evidence, losses
from tests.services.line import data_in, ports_in

SPENDING = a_policy(spend_alpha=True)
ONE, TWO, THREE = (a_candidate(number) for number in (1, 2, 3))


@pytest.fixture
def ctx(tmp_path):
    return ports_in(tmp_path)


def judged(ctx, candidate, loss, policy=SPENDING, dataset=SHOES):
    """One candidate's turn, a minute after the last."""
    ctx.clock.forward(minutes=1)
    record_holdout_use(ctx, candidate, dataset.digest)
    level = policy.level_of(number(ctx, candidate, policy, dataset))
    evidence = an_evidence(losses(overall=a_loss(loss)), candidate=candidate, alpha=level, dataset=dataset)
    ctx.ledger.append(candidate, evidence, actor="test")
    return judge(ctx, candidate, policy, [evidence])


def number(ctx, candidate, policy=SPENDING, dataset=SHOES):
    return holdout_uses(policy, candidate, [dataset.digest], ctx.ledger)[dataset.digest]


def test_a_candidate_that_was_not_approved_spends_alpha_and_one_that_was_returns_it(ctx):
    assert judged(ctx, ONE, 0.0).outcome == "approved"
    assert number(ctx, TWO) == 1
    bad = judged(ctx, TWO, 0.2)
    assert (bad.outcome, "evaluation 1 of this model" in bad.notes[0]) == ("rejected", True)
    third = judged(ctx, THREE, 0.0)
    assert (third.outcome, "evaluation 2 of this model" in third.notes[0]) == ("approved", True)
    assert [number(ctx, one) for one in (ONE, TWO, THREE)] == [1, 1, 2]


def test_judging_again_keeps_the_ordinal_whatever_came_later(ctx):
    judged(ctx, ONE, 0.2)
    judged(ctx, TWO, 0.0)
    judged(ctx, THREE, 0.2)
    again = judged(ctx, TWO, 0.0)
    assert (again.outcome, number(ctx, TWO)) == ("approved", 2)


def test_approval_under_another_policy_or_by_a_waiver_returns_nothing(ctx):
    lax = a_policy(*(rule.model_copy(update={"at_most": 0.9}) for rule in SPENDING.rules), spend_alpha=True, version=2)
    assert (judged(ctx, ONE, 0.2).outcome, judged(ctx, ONE, 0.2, lax).outcome) == ("rejected", "approved")
    assert number(ctx, TWO) == 2
    waiver = Waiver(candidate=ONE.digest, policy=SPENDING.digest, rule="loss", person="bob", reason="a test",
                    until=NOON.date(), at=NOON)  # fmt: skip
    asked = Submission(candidate=ONE.digest, model="net", version="1", submitter="ann", at=NOON)
    ctx.registry.tags["net", "1"] = {}
    ctx.ledger.append(asked, waiver, actor="bob")
    assert (judged(ctx, ONE, 0.2).outcome, number(ctx, TWO)) == ("approved", 2)


def test_approval_on_other_images_returns_nothing_on_these(ctx):
    easy = SHOES.model_copy(update={"name": "easy", "digest": "sha256:" + "7" * 64})
    judged(ctx, ONE, 0.2)
    assert judged(ctx, ONE, 0.0, dataset=easy).outcome == "approved"
    assert (number(ctx, TWO), number(ctx, TWO, dataset=easy)) == (2, 1)


def test_candidates_that_were_begun_and_not_judged_count(ctx):
    for candidate in (ONE, TWO):
        record_holdout_use(ctx, candidate, SHOES.digest)
    assert [number(ctx, one) for one in (ONE, TWO, THREE)] == [1, 2, 3]


def renamed(dataset, digit, chosen):
    """Some of the images, in this order, as another data set."""
    return dataclasses.replace(
        dataset,
        ref=dataset.ref.model_copy(update={"digest": "sha256:" + digit * 64, "images": len(chosen)}),
        images=Chosen(dataset.images, chosen),
        slices=dataclasses.replace(dataset.slices, images=len(chosen), columns=()),
    )


class Chosen:
    def __init__(self, images, chosen):
        self.images, self.chosen, self.size = images, np.asarray(chosen), images.size

    def read(self, numbers):
        return self.images.read(self.chosen[numbers])


def test_the_same_images_in_another_data_set_are_the_same_images(ctx, tmp_path):
    """Other order, other digest: still what the first candidate was judged on; of half of them, half counts."""
    whole = ctx.datasets.open(data_in(tmp_path / "whole"))
    turned, half = renamed(whole, "1", range(59, -1, -1)), renamed(whole, "2", range(30))
    other = ctx.datasets.open(data_in(tmp_path / "other", seed=3))
    for one in (whole, turned, half, other):
        index_images(ctx, one)
    record_holdout_use(ctx, ONE, whole.ref.digest)
    for one in (turned, half, other):
        record_holdout_use(ctx, TWO, one.ref.digest)
    assert [number(ctx, TWO, dataset=one.ref) for one in (turned, half, other)] == [2, 2, 1]
    (use,) = [use for use in ctx.ledger.all(HoldoutUse) if use.dataset == turned.ref.digest]
    assert use.overlaps == {whole.ref.digest: 1.0, half.ref.digest: 0.5}
    more = a_candidate(4)
    record_holdout_use(ctx, THREE, half.ref.digest)
    record_holdout_use(ctx, more, whole.ref.digest)
    assert number(ctx, more, dataset=whole.ref) == 1 + 1 + 1 + 1  # ONE on all, TWO on all of it, THREE on half


def test_nearly_the_same_images_and_the_same_parent_under_another_name_count(ctx, tmp_path):
    whole, near = data_in(tmp_path / "whole"), data_in(tmp_path / "near")
    with np.load(near / "images.npz") as archive:
        pixels = archive["images"].astype(int)
    noise = np.random.default_rng(5).integers(-1, 2, pixels.shape)
    np.savez_compressed(near / "images.npz", images=np.clip(pixels + noise, 0, 255).astype(np.uint8))
    whole, near = (ctx.datasets.open(one) for one in (whole, near))
    other_name, other_parent = a_candidate(4, "shadow"), a_candidate(5, "stranger")
    weights = (a_parent().files[0].model_copy(update={"digest": a_digest(7), "name": "model.safetensors"}),)
    stranger = a_parent("stranger").model_copy(update={"files": weights})
    other_parent = other_parent.model_copy(update={"parent": stranger.digest})
    ctx.ledger.append(a_parent(), a_parent("shadow"), stranger, ONE, other_name, other_parent, actor="test")
    for one in (whole, near):
        index_images(ctx, one)
    for one in (other_name, other_parent):
        record_holdout_use(ctx, one, near.ref.digest)
    record_holdout_use(ctx, ONE, whole.ref.digest)
    assert number(ctx, ONE, dataset=whole.ref) == 2


def test_a_data_set_is_indexed_once_and_copies_are_one_cluster(ctx, tmp_path):
    whole = ctx.datasets.open(data_in(tmp_path / "whole"))
    assert count_copies_once(ctx, whole) is whole
    listed = renamed(whole, "1", list(range(20)) * 3)
    counted = count_copies_once(ctx, listed)
    assert np.bincount(counted.slices.clusters).tolist() == [3] * 20
    assert index_images(ctx, listed) == index_images(ctx, listed)
    assert [one.distinct for one in ctx.ledger.all(DatasetImages)] == [60, 20]


def test_what_is_not_recorded_of_the_images_is_said(ctx, tmp_path):
    whole = ctx.datasets.open(data_in(tmp_path / "whole"))
    elsewhere = ONE.model_copy(update={"recipe": None})
    assert images_not_recorded(ctx.ledger, ONE) == (
        "It is not recorded which images trained the parent (`auditsvc data used`): they may be among those that are "
        "audited",
    )
    assert "trained the parent or made this candidate, which was" in images_not_recorded(ctx.ledger, elsewhere)[0]
    record_images_seen(ctx, ONE.parent, whole, purpose_named("training"), "ann")
    assert images_not_recorded(ctx.ledger, ONE) == ()
    with pytest.raises(InvalidInput, match=r"60 of 60 images .* used for training of the parent"):
        require_unseen(ctx, ONE, whole)
    with pytest.raises(InvalidInput, match="not for 'fun'"):
        purpose_named("fun")


def test_nearly_equal_images_are_one_and_are_never_tested_on_what_they_trained(ctx, tmp_path):
    whole = ctx.datasets.open(data_in(tmp_path / "whole"))
    near = data_in(tmp_path / "near")
    with np.load(near / "images.npz") as archive:
        pixels = archive["images"].astype(int)
    noise = np.random.default_rng(5).integers(-1, 2, pixels.shape)
    changed = np.concatenate([pixels, pixels[:9, :, ::-1] // 2])  # darker and mirrored
    rows = (near / "metadata.csv").read_text().splitlines()
    (near / "metadata.csv").write_text("\n".join([*rows, *rows[1:10]]))
    np.savez_compressed(near / "images.npz", images=changed.astype(np.uint8))
    counted = count_copies_once(ctx, ctx.datasets.open(near))
    assert sorted(np.bincount(counted.slices.clusters)) == [1] * 51 + [2] * 9
    assert counted.ref.suspected == ("18 of 69 images nearly equal another one",)
    other = data_in(tmp_path / "other", seed=4)
    np.savez_compressed(other / "images.npz", images=np.clip(pixels + noise, 0, 255).astype(np.uint8))
    record_images_seen(ctx, ONE.digest, whole, "recovery")
    with pytest.raises(InvalidInput, match=r"60 of 60 images .* are in bright-0, which was used for recovery"):
        require_unseen(ctx, ONE, ctx.datasets.open(other))


def test_copies_join_declared_clusters(tmp_path):
    whole = ports_in(tmp_path).datasets.open(data_in(tmp_path / "whole"))
    declared = dataclasses.replace(whole, slices=dataclasses.replace(whole.slices, clusters=np.arange(60) // 2))
    groups = np.arange(60)
    groups[[1, 4]] = 99  # an image of the first pair is also in the third
    clusters = with_copies(declared, groups).slices.clusters
    assert len(np.unique(clusters)) == 29
    assert len(np.unique(clusters[[0, 1, 4, 5]])) == 1


def test_digests_are_of_pixels_and_shape():
    class Flat:
        def __init__(self, *shape):
            self.shape = shape

        ref = SHOES.model_copy(update={"images": 1})

        def batches(self, size):
            import torch

            from auditsvc.datasets.dataset import Batch

            yield Batch(torch.full((1, *self.shape), 0.5), torch.zeros(1), torch.zeros(1, dtype=torch.int64))

    found = [int(fingerprints(Flat(*shape))[0][0]) for shape in ((1, 4, 4), (1, 4, 4), (1, 2, 8))]
    assert found[0] == found[1] != found[2]


def test_images_of_which_only_predictions_are_here_are_known_by_their_names(ctx, tmp_path):
    table = tmp_path / "table.csv"
    rows = [f"{name},dark,dark,bright" for name in ("a", "b", "c")]
    table.write_text("\n".join(("image,truth,parent,candidate", *rows)))
    alone = read_predictions(table).dataset
    assert len(np.unique(fingerprints(alone)[0])) == 3
    whole = ctx.datasets.open(data_in(tmp_path / "whole"))
    assert fingerprints(PredictedDataset(whole, whole.slices))[0].tolist() == fingerprints(whole)[0].tolist()
    assert isinstance(with_copies(alone, np.zeros(3)), PredictedDataset)


def test_images_that_made_a_model_are_refused_with_what_they_were_used_for(ctx, tmp_path):
    whole = ctx.datasets.open(data_in(tmp_path / "whole"))
    mixed, other = renamed(whole, "1", range(50, 60)), ctx.datasets.open(data_in(tmp_path / "other", seed=3))
    require_unseen(ctx, ONE, whole)
    record_images_seen(ctx, ONE.digest, mixed, "recovery")
    record_images_seen(ctx, ONE.digest, mixed, "recovery")
    require_unseen(ctx, ONE, other)
    require_unseen(ctx, TWO, whole)
    with pytest.raises(InvalidInput, match=r"10 of 60 images \(#50, #51, #52, ...\) are in bright-0, which was used "
                                           "for recovery of the candidate"):  # fmt: skip
        require_unseen(ctx, ONE, whole)
    inherit_images_seen(ctx, ONE, TWO)
    record_images_seen(ctx, THREE.parent, other, "training")
    for candidate, dataset, words in (
        (TWO, whole, "recovery of the candidate"),
        (THREE, other, "training of the parent"),
    ):
        with pytest.raises(InvalidInput, match=words):
            require_unseen(ctx, candidate, dataset)
    assert len(list(ctx.ledger.all(ImagesSeen))) == 3
