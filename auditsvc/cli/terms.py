"""``terms set``, ``confirm``, ``show`` and ``list``: what binds a model, set by two people before candidates come."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auditsvc.cli.output import Json, Model, Person, PolicyName, Store, context_for, print_json
from auditsvc.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from auditsvc.ports import Context
    from auditsvc.records import Digest, Policy

terms_app = typer.Typer(
    help="Terms of a model: the policy, the data and the approvers that bind it, set by two people.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@terms_app.command("set")
def set_(
    model: Model,
    data: Annotated[list[str], typer.Option(help="The data set's folder, or its digest; may be repeated.")],
    person: Person,
    policy: PolicyName = "standard",
    slices: Annotated[
        list[str] | None, typer.Option("--slice", help="NAME:IMAGES, a slice that must be judged; may be repeated.")
    ] = None,
    approvals: Annotated[int | None, typer.Option(min=1, max=9, help="Approvals. [default: the policy's]")] = None,
    parent: Annotated[
        list[str] | None,
        typer.Option(help="An accepted parent, by digest; may be repeated. [default: those registered now]"),
    ] = None,
    unmarked: Annotated[
        bool, typer.Option("--unmarked", help="A candidate that was pruned elsewhere needs no watermark.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why; the ledger records it.")] = "the terms of this model",
    store: Store = None,
    json: Json = False,
) -> None:
    """Propose the terms of a model.  Another person must confirm them with ``auditsvc terms confirm``."""
    from auditsvc.services.policies import resolve_policy
    from auditsvc.services.statements import parse_draft
    from auditsvc.services.terms import TermsDraft, propose_terms

    ctx = context_for(store, create=True, quiet=json)
    rules, wanted = resolve_policy(policy, ctx.ledger), dict(_slice(one) for one in slices or ())
    fields = {
        "datasets": [_dataset(ctx, one, rules, wanted) for one in data],
        "slices": wanted,
        "approvals": approvals,
        "parents": parent or (),
        "unmarked": unmarked,
        "reason": reason,
    }
    made = propose_terms(ctx, model, rules, parse_draft(TermsDraft, fields), person)
    if json:
        print_json({"proposal": made.digest, **made.model_dump(mode="json", exclude_none=True)})
    else:
        print("\n".join(made.lines))
        print(f"proposed by {person}; another person confirms: auditsvc terms confirm {model} --as NAME")


def _slice(text: str) -> tuple[str, int]:
    name, _, images = text.rpartition(":")
    if not name or not images.isdecimal() or int(images) < 1:
        raise InvalidInput(f"--slice {text}: give the name and the least number of images, for example gender=F:100")
    return name, int(images)


def _dataset(ctx: Context, given: str, policy: Policy, wanted: dict[str, int]) -> Digest:
    """The digest of a data set; of a folder only if it has the required slices."""
    if given.startswith("sha256:"):
        return given
    from auditsvc.services.policies import slice_dataset
    from auditsvc.services.power import slice_sizes

    dataset = ctx.datasets.open(Path(given))
    sizes = slice_sizes(slice_dataset(policy, dataset))
    few = [f"{name}: {sizes.get(name, 0)} images, not {least}" for name, least in wanted.items()
           if sizes.get(name, 0) < least]  # fmt: skip
    if few:
        raise InvalidInput(f"the data set {dataset.ref.name} lacks slices that these terms require", few)
    return dataset.ref.digest


@terms_app.command("confirm")
def confirm(model: Model, person: Person, store: Store = None, json: Json = False) -> None:
    """Confirm the proposed terms of a model; from now on they bind it.  Who proposed them can't."""
    from auditsvc.services.terms import binding_terms, confirm_terms, pending_terms

    ctx = context_for(store, create=True, quiet=json)
    pending = pending_terms(ctx.ledger, model)
    if pending is None:
        known = binding_terms(ctx.ledger, model)
        bound = f"; {known.digest} bind it" if known else ""
        raise NotFound(f"no terms of {model} wait for confirmation{bound}")
    made = confirm_terms(ctx, pending, person)
    if json:
        print_json({"terms": made.digest, **made.model_dump(mode="json", exclude_none=True)})
    else:
        print("\n".join(made.lines))
        print(f"proposed by {made.proposed_by}, confirmed by {person}; they bind {model}: audit its candidates again")


@terms_app.command("show")
def show(model: Model, store: Store = None, json: Json = False) -> None:
    """The terms that bind a model, and a proposal that waits for confirmation.  Exit code 3 if no terms bind it."""
    from auditsvc.services.terms import binding_terms, pending_terms

    ledger = context_for(store).ledger
    found = (("binding", binding_terms(ledger, model)), ("pending", pending_terms(ledger, model)))
    if json:
        shown = {
            name: one.model_dump(mode="json", exclude_none=True) | {"digest": one.digest} for name, one in found if one
        }
        print_json({"model": model, **shown})
    else:
        print("\n".join(line for name, one in found if one for line in (f"{name}: {one.digest}", *one.lines)))
    if found[0][1] is None:
        if not json:
            print(f"no terms bind {model}: every decision is a trial")
        raise typer.Exit(3)


@terms_app.command("list")
def list_(store: Store = None, json: Json = False) -> None:
    """The terms that bind each model."""
    from auditsvc.records import ReleaseTerms

    newest = {one.model: one for one in context_for(store).ledger.all(ReleaseTerms)}
    if json:
        print_json(
            {
                "terms": [
                    one.model_dump(mode="json", exclude_none=True) | {"digest": one.digest} for one in newest.values()
                ]
            }
        )
        return
    if not newest:
        print("no terms are set yet; run `auditsvc terms set`")
    for model, one in sorted(newest.items()):
        print(f"{model}  {one.policy_name}  {one.digest}  {one.proposed_by}, {one.confirmed_by}  {one.at:%Y-%m-%d}")
