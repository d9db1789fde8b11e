"""All commands.  Each file of this package holds one group; heavy libraries are imported when a command runs."""

from __future__ import annotations

import typer

from auditsvc.cli import (
    asking,
    deciding,
    keeping,
    keyring,
    making,
    monitoring,
    policies,
    pruning,
    registering,
    serving,
    telling,
    tracing,
    trusting,
    witnessing,
    working,
)

app = typer.Typer(
    name="auditsvc",
    help="Decides, with evidence that anyone can check, whether a pruned vision model may be released.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(telling.demo)
app.command()(pruning.prune)
app.command()(making.audit)
app.command()(asking.gate)
app.command()(deciding.approve)
app.command()(deciding.waive)
app.command()(deciding.release)
app.command()(telling.report)
app.command()(asking.verify)
app.command()(deciding.revoke)
app.command()(monitoring.monitor)
app.command()(deciding.rollback)
app.command()(tracing.copy)
app.command()(tracing.identify)
app.command()(tracing.queries)
app.command()(tracing.reveal)
app.command()(tracing.arbitrate)
app.command()(serving.serve)
app.command()(working.worker)
app.command()(keeping.backup)
app.add_typer(working.jobs_app, name="jobs")
app.add_typer(policies.policy_app, name="policy")
app.add_typer(registering.incident_app, name="incident")
app.add_typer(keyring.keys_app, name="keys")
app.add_typer(trusting.trust_app, name="trust")
app.add_typer(trusting.log_app, name="log")
app.add_typer(witnessing.witness_app, name="witness")
