"""Seeds of one recipe are found by their records; what they change alike is kept once."""

from __future__ import annotations

from auditsvc.records.evidence import Exemplars
from auditsvc.services.audit import find_exemplars, seeds_of
from tests.services.line import policy


def another_seed(ctx, candidate, seed):
    """The same files under another seed: what two seeds that agree on every image would be."""
    other = candidate.model_copy(update={"recipe": candidate.recipe.model_copy(update={"seed": seed})})
    ctx.ledger.append(other, actor="test")
    return other


def test_one_seed_tells_nothing(line):
    ctx, _, candidate, dataset = line
    assert seeds_of(candidate, ctx.ledger) == (candidate,)
    assert find_exemplars(ctx, candidate, policy(), dataset) is None


def test_seeds_that_agree_are_counted_and_found_again(line):
    ctx, _, candidate, dataset = line
    others = [another_seed(ctx, candidate, seed) for seed in (3, 2)]
    recipe = candidate.recipe.model_copy(update={"targets": {"sparsity": 0.9}, "seed": 4})
    ctx.ledger.append(candidate.model_copy(update={"recipe": recipe}), actor="test")
    assert [one.recipe.seed for one in seeds_of(candidate, ctx.ledger)] == [0, 2, 3]
    found = find_exemplars(ctx, candidate, policy(), dataset)
    assert found.noise == 0.0
    assert found.changed == round(found.churn * dataset.ref.images) == len(found.shown)
    assert all(row.agreed == 3 for row in found.shown)
    assert find_exemplars(ctx, others[0], policy(), dataset) == found
    assert ctx.ledger.find(Exemplars, candidate.digest) == (found,)
