"""All commands.  Each file of this package holds one group; heavy libraries are imported when a command runs."""

from __future__ import annotations

import typer

from auditsvc.cli import (
    audit,
    data,
    decision,
    device,
    init,
    policy,
    prune,
    report,
    serve,
    statements,
    terms,
    trust,
    verify,
    watermark,
)

app = typer.Typer(
    name="auditsvc",
    help="Decides, with evidence that anyone can check, whether a pruned vision model may be released.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(report.demo)
app.command()(init.init)
app.command()(prune.prune)
app.command()(audit.audit)
app.command()(verify.gate)
app.command()(decision.approve)
app.command()(decision.waive)
app.command()(decision.release)
app.command()(report.report)
app.command()(device.kit)
app.command()(device.admit_measurement)
app.command()(verify.verify)
app.command()(decision.revoke)
app.command()(audit.monitor)
app.command()(decision.rollback)
app.command()(serve.serve)
app.command()(serve.worker)
app.command()(serve.signer)
app.command()(serve.backup)
app.add_typer(serve.jobs_app, name="jobs")
app.add_typer(serve.store_app, name="store")
app.add_typer(init.model_app, name="model")
app.add_typer(data.data_app, name="data")
app.add_typer(device.device_app, name="device")
app.add_typer(policy.policy_app, name="policy")
app.add_typer(terms.terms_app, name="terms")
app.add_typer(statements.statement_app, name="statement")
app.add_typer(statements.incident_app, name="incident")
app.add_typer(watermark.watermark_app, name="watermark")
app.add_typer(trust.keys_app, name="keys")
app.add_typer(trust.trust_app, name="trust")
app.add_typer(trust.log_app, name="log")
app.add_typer(trust.witness_app, name="witness")
