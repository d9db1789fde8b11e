"""``monitor``: run the monitor of a release in use now.  ``watch``: how releases are watched, set by two people."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auditsvc.cli.output import Json, Model, Person, Store, command_group, context_for, print_result
from auditsvc.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from auditsvc.ports import Context
    from auditsvc.records import DriftAlarm, Release

AVersion = Annotated[str | None, typer.Option(help="A released version. [default: the one in use]")]

EXIT_CODES = {"steady": 0, "changed": 1, "worse": 1, "unknown": 3}

_WORDS = {
    "steady": "steady",
    "changed": "not like its audit: it needs a review",
    "worse": "worse than its audit, or than its policy allows",
    "unknown": "too few images to decide",
}


def _release(ctx: Context, model: str, version: str | None) -> Release:
    from auditsvc.services.registry import ALIAS, alias_target
    from auditsvc.services.watching import watched_release

    chosen = version or alias_target(ctx.ledger, model, ctx.registry.aliased(model, ALIAS))
    if not chosen:
        raise NotFound(f"no version of {model} is in use")
    return watched_release(ctx.ledger, model, chosen)


def _here(name: str) -> Path:
    """What the settings name: a path, or an address in object storage, which is copied."""
    from auditsvc.adapters.object_references import local_path

    return local_path(Path(name))


def monitor(
    model: Model,
    person: Person,
    data: Annotated[Path | None, typer.Option(help="Newer labelled images: a data set folder.")] = None,
    version: AVersion = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Monitor a release in use: do its files verify, is what it sees and answers like its audit, do its rules hold?

    Counts what was observed since the last run (auditsvc watch set); with --data also measures newer labelled images.
    Exit code 0: steady, 1: changed or worse, 3: too few images to decide.  It moves no alias: people do.
    """
    from auditsvc.services.monitoring import monitor as run

    ctx = context_for(store, create=True, quiet=json)
    release = _release(ctx, model, version)
    made = run(ctx, release, person, ctx.datasets.open(data) if data else None, locate=_here)
    lines = [f"{model} version {release.version}, {made.looked_at}: {_WORDS[made.outcome]}"]
    lines += [f"  {reason}" for reason in made.reasons]
    if made.observed and made.observed.estimate:
        found = made.observed.estimate
        ends = f"{found.accuracy.low:.3f} to {found.accuracy.high:.3f}"
        lines.append(f"  accuracy without labels, an estimate that nothing judges: {found.accuracy.value:.3f} ({ends})")
    print_result(json, made, *lines)
    raise typer.Exit(EXIT_CODES[made.outcome])


watch_app = command_group(
    "How a release in use is watched: source, schedule, false alarms, slices; the monitoring plan, set by two people."
)


@watch_app.command("set")
def set_(
    model: Model,
    data: Annotated[str, typer.Option(help="The audited images, which new ones are compared with.")],
    person: Person,
    source: Annotated[
        str | None, typer.Option(help="A folder of images, a JSONL or Parquet log, or an address. [default: the API]")
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Minutes between two runs of the service.")] = 60,
    alpha: Annotated[float, typer.Option(help="The chance of any false alarm, however often one looks.")] = 0.05,
    slices: Annotated[
        list[str] | None, typer.Option("--slice", help="A column that is watched apart, such as device; repeatable.")
    ] = None,
    block: Annotated[float | None, typer.Option(help="Minutes of a device of which one image counts.")] = None,
    period: Annotated[float | None, typer.Option(help="Minutes of a season, 1440 for a day.")] = None,
    parent_share: Annotated[float, typer.Option(min=0, max=1, help="Share of images the parent answers too.")] = 0.1,
    retention: Annotated[int, typer.Option(min=1, help="Days for which observations are kept.")] = 90,
    contact: Annotated[list[str] | None, typer.Option(help="Who is informed; repeatable.")] = None,
    reason: Annotated[str, typer.Option(help="Why; the ledger records it.")] = "the monitoring plan",
    version: AVersion = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Propose how a release is watched.  Another person must confirm it with ``auditsvc watch confirm``."""
    from auditsvc.services.statements import parse_draft
    from auditsvc.services.watching import WatchDraft, propose_watch

    ctx = context_for(store, create=True, quiet=json)
    fields = {
        "data": data, "source": source, "every_minutes": every, "alpha": alpha, "slices": slices or (),
        "block_minutes": block, "period_minutes": period, "parent_share": parent_share, "retention_days": retention,
        "contacts": contact or (), "reason": reason, "dataset": ctx.datasets.open(_here(data)).ref.digest,
    }  # fmt: skip
    made = propose_watch(ctx, _release(ctx, model, version), parse_draft(WatchDraft, fields), person)
    hint = f"proposed by {person}; another person confirms: auditsvc watch confirm {model} --as NAME"
    print_result(json, {"proposal": made.digest, **made.model_dump(mode="json", exclude_none=True)}, *made.lines, hint)


@watch_app.command("confirm")
def confirm(model: Model, person: Person, version: AVersion = None, store: Store = None, json: Json = False) -> None:
    """Confirm how a release is watched; from now on it counts.  Who proposed it can't."""
    from auditsvc.services.watching import confirm_watch, pending_watch

    ctx = context_for(store, create=True, quiet=json)
    pending = pending_watch(ctx.ledger, _release(ctx, model, version).digest)
    if pending is None:
        raise NotFound(f"no settings of {model} wait for confirmation")
    made = confirm_watch(ctx, pending, person)
    hint = f"proposed by {made.proposed_by}, confirmed by {person}"
    print_result(json, {"settings": made.digest, **made.model_dump(mode="json", exclude_none=True)}, *made.lines, hint)


@watch_app.command("show")
def show(model: Model, version: AVersion = None, store: Store = None, json: Json = False) -> None:
    """The settings that count, a proposal, and the alarms that need a review.  Exit code 3 if nothing is watched."""
    from auditsvc.services.watching import open_drift, pending_watch, watch_settings

    ctx = context_for(store)
    release = _release(ctx, model, version)
    settings, pending = watch_settings(ctx.ledger, release.digest), pending_watch(ctx.ledger, release.digest)
    alarms = open_drift(ctx.ledger, release.digest, ctx.clock.now())
    lines = [line for title, one in (("watched", settings), ("proposed", pending)) if one
             for line in (f"{title}: {one.digest}", *one.lines)]  # fmt: skip
    lines += _alarm_lines(alarms)
    found = {name: one.model_dump(mode="json", exclude_none=True) | {"digest": one.digest}
             for name, one in (("settings", settings), ("pending", pending)) if one}  # fmt: skip
    shown = [one.model_dump(mode="json") | {"digest": one.digest} for one in alarms]
    print_result(json, {**found, "alarms": shown}, *(lines or [f"{model} version {release.version} is not watched"]))
    if settings is None:
        raise typer.Exit(3)


def _alarm_lines(alarms: Sequence[DriftAlarm]) -> Iterator[str]:
    """Each alarm, and the deadlines that count from the first."""
    from auditsvc.services.incidents import incident_draft

    for alarm in alarms:
        yield f"alarm {alarm.at:%Y-%m-%d %H:%M}: {alarm.words}"
        yield f"  {alarm.digest}"
    for alarm in alarms[:1]:
        due = sorted((moment, harm) for harm, moment in incident_draft(alarm)["due"].items())
        words = ", ".join(f"{moment:%Y-%m-%d} ({harm})" for moment, harm in due)
        yield f"a serious incident must be reported by {words}, counted from the first alarm: auditsvc incident add"


@watch_app.command("mute")
def mute(
    alarm: Annotated[str, typer.Argument(help="The alarm's digest.")],
    person: Person,
    reason: Annotated[str, typer.Option(help="Why it needs no review; the ledger records it.")],
    days: Annotated[int, typer.Option(min=1, help="Days after which it needs one again.")],
    store: Store = None,
    json: Json = False,
) -> None:
    """Mute an alarm for some days, in your name."""
    from auditsvc.records import DriftAlarm
    from auditsvc.services.watching import mute_alarm

    ctx = context_for(store, create=True, quiet=json)
    until = ctx.clock.now() + datetime.timedelta(days=days)
    made = mute_alarm(ctx, ctx.ledger.get(DriftAlarm, alarm), person, reason, until)
    print_result(json, made, f"muted until {made.until:%Y-%m-%d %H:%M} by {person}")


@watch_app.command("label")
def label(
    model: Model,
    file: Annotated[Path, typer.Argument(help="A JSON object: the label of each observation, by its id.")],
    version: AVersion = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Give labels of observations that became known later; the next run judges the rules about them."""
    from auditsvc.services.observations import add_labels, parse_labels

    ctx = context_for(store, create=True, quiet=json)
    if not file.is_file():
        raise InvalidInput(f"there is no file {file}")
    kept = add_labels(ctx, _release(ctx, model, version), parse_labels(file.read_bytes()))
    print_result(json, {"labelled": kept}, f"{kept} labels are new")
