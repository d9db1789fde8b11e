"""Reports show images that flipped, one image under each condition, and the other candidates."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from auditsvc.records import CheckSpec, Flip, Recipe, Release, Rule
from auditsvc.services.candidates import prune_candidate, submit
from auditsvc.services.decisions import judge
from auditsvc.services.measurement import measure_candidate
from auditsvc.services.reporting import BROKEN, GALLERY, examples, gallery, siblings, write_report
from tests.services.line import data_in, policy

DARK = policy(
    checks={"lighting": CheckSpec(version=1, parameters={"exposure_stops": [-2.0, 1.0]}),
            "occlusion": CheckSpec(version=1, parameters={"fractions": [0.25], "worst": [0.1]})},
    rules=(Rule(rule="dark", reading="lighting/drop.*", at_most=0.3, why="a test"),),
)  # fmt: skip


def test_one_image_is_shown_under_every_condition_that_needs_no_search(line):
    _, _, _, dataset = line
    found = examples(DARK, dataset, dataset.name_of(1))
    assert list(found) == ["exposure@-2EV", "exposure@+1EV", "occlusion.square@0.25"]
    means = {name: np.asarray(Image.open(io.BytesIO(data))).mean() for name, data in found.items()}
    assert means["exposure@-2EV"] < means["exposure@+1EV"]
    assert examples(DARK, dataset, dataset.name_of(1)) == found


def test_the_gallery_shows_every_kind_of_change_and_each_image_once(line):
    ctx, _, candidate, dataset = line
    evidence = measure_candidate(ctx, candidate, policy(), dataset)[0]
    changes = [("dark", "bright", "dark")] * 30 + [("bright", "dark", "dark")] * 10
    flips = tuple(
        Flip(image=dataset.name_of(n), condition="clean", parent=a, candidate=b, target=t, slices=())
        for n, (a, b, t) in enumerate(changes)
    )
    shown = gallery([evidence.model_copy(update={"flips": flips}), evidence.model_copy(update={"flips": flips[:3]})],
                    dataset)  # fmt: skip
    assert len(shown) == GALLERY == len({item.image for item in shown})
    assert sum(item.parent == item.target for item in shown) == BROKEN


HEAVIER = Recipe(method="magnitude-global", targets={"sparsity": 0.5})


def other_images(ctx, folder):
    """Images to calibrate on, which are not audited."""
    return ctx.datasets.open(data_in(folder / "calibration", seed=5))


def test_other_candidates_of_the_parent_are_those_judged_before_on_the_same_images(line, tmp_path):
    ctx, parent, candidate, dataset = line
    heavier = prune_candidate(
        ctx, parent, Recipe(method="magnitude-global", targets={"sparsity": 0.5}), other_images(ctx, tmp_path)
    )
    submit(ctx, heavier, "1", "sue")
    decisions = [
        judge(ctx, one, policy(), measure_candidate(ctx, one, policy(), dataset)) for one in (candidate, heavier)
    ]
    (other,) = siblings(heavier, decisions[1], ctx.ledger)
    assert other.candidate == candidate and other.outcome == decisions[0].outcome
    ctx.clock.forward(days=1)
    assert tuple(siblings(heavier, decisions[1], ctx.ledger)) == (other,)


def test_the_report_of_a_later_candidate_says_what_changed_since_the_release(line, tmp_path):
    ctx, parent, candidate, dataset = line
    decision = judge(ctx, candidate, policy(), measure_candidate(ctx, candidate, policy(), dataset))
    ctx.ledger.append(
        Release(model="brightness", version="2", candidate=candidate.digest, decision=decision.digest, approvals=(),
                files=candidate.files, attestations=(), at=ctx.clock.now()), actor="test")  # fmt: skip
    heavier = prune_candidate(
        ctx, parent, Recipe(method="magnitude-global", targets={"sparsity": 0.5}), other_images(ctx, tmp_path)
    )
    submit(ctx, heavier, "1", "sue")
    ctx.clock.forward(days=1)
    later = judge(ctx, heavier, policy(), measure_candidate(ctx, heavier, policy(), dataset))
    first, second = (write_report(ctx, one, what, dataset)[0].read_text() for one, what in
                     ((candidate, decision), (heavier, later)))  # fmt: skip
    assert "Changes since the previous release" not in first
    assert "Changes since the previous release" in second
