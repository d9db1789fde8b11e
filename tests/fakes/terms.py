"""Terms of a model in a store of a test, set by tess and tom."""

from __future__ import annotations

from auditsvc.ports import Context
from auditsvc.records import Digest, Policy, ReleaseTerms
from auditsvc.services.terms import TermsDraft, binding_terms, confirm_terms, propose_terms


def bind_terms(ctx: Context, model: str, rules: Policy, *datasets: Digest, **draft: object) -> ReleaseTerms:
    """The terms of the model: this policy on these data sets; those that bind it now, if they are the same."""
    known = binding_terms(ctx.ledger, model)
    if known and not draft and (known.policy, known.datasets) == (rules.digest, datasets):
        return known
    fields = TermsDraft(datasets=datasets, reason="a test", **draft)
    return confirm_terms(ctx, propose_terms(ctx, model, rules, fields, "tess"), "tom")
