"""``policy`` and ``terms``: policies before and after they are used, and what binds a model.

Terms are set by two people before candidates come.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auditsvc.cli.output import Json, Model, Person, PolicyName, Store, context_for, print_json, print_result
from auditsvc.cli.report import policy_app
from auditsvc.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from auditsvc.datasets.image_dataset import Column
    from auditsvc.ports import Context
    from auditsvc.records import Digest, Policy
    from auditsvc.services.power import Chance, SlicePower

PolicyArgument = Annotated[str, typer.Argument(help="A policy file, or a shipped one by name.")]

__all__ = ["policy_app"]


@policy_app.command("plan")
def policy_plan(
    policy: PolicyArgument,
    data: Annotated[Path | None, typer.Option(help="The data set that is to be audited.")] = None,
    images: Annotated[int | None, typer.Option(min=1, help="Or: this number of images, in one slice.")] = None,
    changing: Annotated[float, typer.Option(min=0.001, max=1, help="Share of answers that pruning changes.")] = 0.05,
    power: Annotated[float, typer.Option(min=0.5, max=0.99, help="The probability that a rule is met.")] = 0.8,
    json: Json = False,
) -> None:
    """How many images each rule needs on each slice.  Exit code 3 if the policy could not approve anything."""
    from auditsvc.datasets import Slices
    from auditsvc.datasets.readers import DatasetReaders
    from auditsvc.records import OVERALL
    from auditsvc.services.policies import resolve_policy, slice_dataset
    from auditsvc.services.power import chance_of_approval, plan, slice_sizes

    if (data is None) == (images is None):
        raise InvalidInput("say what to plan for: --data FOLDER or --images N")
    found = resolve_policy(policy)
    columns: tuple[Column, ...] = ()
    if data is not None:
        dataset = DatasetReaders().open(data)
        columns = getattr(dataset, "columns", ())
        sliced = slice_dataset(found, dataset)
        sizes, slices = slice_sizes(sliced), sliced.slices
    else:
        sizes, slices = {OVERALL: images or 0}, Slices(images or 0, ())
    lines = plan(found, sizes, changing=changing, power=power)
    chance = chance_of_approval(found, slices, changing=changing, power=power)
    if json:
        described = {"columns": [column.model_dump() for column in columns]} if columns else {}
        print_json(
            {"plan": [line.model_dump() for line in lines], "decidable": not any(x.cannot_approve for x in lines)}
            | {"chance": chance.model_dump()}
            | described
        )
    else:
        _print_columns(columns)
        _print_plan(lines)
        _print_chance(chance)
    raise typer.Exit(3 if any(line.cannot_approve for line in lines) else 0)


def _print_columns(columns: tuple[Column, ...]) -> None:
    """The metadata as it was parsed: it shows a numeric column that was read as text."""
    width = max((len(column.name) for column in columns), default=0)
    for column in columns:
        missing = f", {column.missing} missing" if column.missing else ""
        print(f"  {column.name:<{width}}  {column.kind}, {column.values} values{missing}: {column.use}")


def _print_plan(lines: tuple[SlicePower, ...]) -> None:
    width = max(len(line.slice) for line in lines)
    rule = ""
    for line in lines:
        if line.rule != rule:
            rule = line.rule
            print(rule)
        needs = "" if line.n_for_power is None else f"; {line.n_for_power} for this power, {line.needed} at least"
        print(f"  {line.state:<10} {line.slice:<{width}} {line.images:>7} images{needs}")
    for line in lines:
        if line.cannot_approve:
            print(f"can't be decided: {line.rule} on {line.slice}")


def _print_chance(chance: Chance) -> None:
    """What the whole policy does with a candidate that loses nothing, and what would make it likely to pass."""
    print(
        f"a candidate that loses nothing and changes {chance.changing:.0%} of its answers is approved by the whole "
        f"policy with a chance of {chance.chance:.0%} ({chance.low:.0%} to {chance.high:.0%}; "
        f"{chance.runs} simulated audits)"
    )
    for name, share in chance.weakest:
        print(f"  {share:.0%} of the audits could not show every rule on {name}")
    if chance.more:
        named = ", ".join(f"{count} of {name}" for name, count in chance.more.items())
        print(f"  more images make it {chance.with_more:.0%}: {named}")
    if chance.assumed:
        print(f"  not simulated, assumed to hold: {', '.join(chance.assumed)}")


@policy_app.command("dry-run")
def policy_dry_run(
    policy: PolicyArgument,
    model: Annotated[str | None, typer.Option(help="Only candidates of this model.")] = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Back-test a policy: the decisions it would have made on all past candidates.  Nothing is measured or stored."""
    from auditsvc.services.decisions import backtest
    from auditsvc.services.policies import resolve_policy

    ledger = context_for(store).ledger
    found = tuple(backtest(resolve_policy(policy, ledger), ledger, model))
    lines = []
    for item in found:
        turned = "  <- changed" if item.turned else ""
        name = f"{item.model} version {item.version} on {item.data}"
        lines.append(f"{name}: {item.before} under {item.under}, {item.now}{turned}")
        lines += [f"    {reason}" for reason in item.reasons]
    lines.append(f"{sum(item.turned for item in found)} of {len(found)} decisions would change")
    print_result(json, {"replayed": [item.model_dump(mode="json") for item in found]}, *lines)


@policy_app.command("diff")
def policy_diff(
    old: PolicyArgument,
    new: Annotated[str, typer.Argument(help="The policy to compare it with.")],
    json: Json = False,
) -> None:
    """The differences of two policies.  Exit code 1 if there are any."""
    from auditsvc.records.messages import differences
    from auditsvc.services.policies import resolve_policy

    before, after = resolve_policy(old), resolve_policy(new)
    lines = differences(before, after)
    print_result(
        json, {"old": before.digest, "new": after.digest, "differences": list(lines)}, *(lines or ["no difference"])
    )
    raise typer.Exit(1 if lines else 0)


@policy_app.command("explain")
def policy_explain(
    policy: Annotated[str | None, typer.Argument(help="A policy file, or a shipped one by name.")] = None,
    model: Annotated[str | None, typer.Option(help="Or explain a decision: the model, ")] = None,
    version: Annotated[str | None, typer.Option(help="and its version.")] = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """A policy, or the newest decision on a version, in plain words."""
    from auditsvc.records.messages import explain_policy
    from auditsvc.services.policies import resolve_policy

    if (policy is None) == (model is None or version is None):
        raise InvalidInput("say what to explain: a POLICY, or a decision with --model and --version")
    lines = list(explain_policy(resolve_policy(policy))) if policy else _decision(str(model), str(version), store)
    print_result(json, {"words": lines}, *lines)


def _decision(model: str, version: str, store: Path | None) -> list[str]:
    from auditsvc.records import Decision, Policy, Submission
    from auditsvc.records.messages import explain_decision

    ledger = context_for(store).ledger
    known = ledger.find(Submission, f"{model}/{version}")
    decisions = ledger.find(Decision, known[-1].candidate) if known else ()
    if not decisions:
        raise NotFound(f"no decision on {model} version {version}")
    return list(explain_decision(decisions[-1], ledger.get(Policy, decisions[-1].policy)))


@policy_app.command("schema")
def policy_schema() -> None:
    """The JSON Schema of policy files, for editors."""
    from auditsvc.records.policy import policy_schema as schema

    print_json(schema())


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
