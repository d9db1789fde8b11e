"""All commands.  Each file of this package holds one group; heavy libraries are imported when a command runs."""

from __future__ import annotations

import typer

from auditsvc.cli import audit, decision, policy, prune, report, serve, statements, trust, verify, watermark
from auditsvc.cli import audit as monitor
from auditsvc.cli import serve as backup
from auditsvc.cli import serve as jobs
from auditsvc.cli import trust as keys
from auditsvc.cli import trust as witness

app = typer.Typer(
    name="auditsvc",
    help="Decides, with evidence that anyone can check, whether a pruned vision model may be released.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(report.demo)
app.command()(prune.prune)
app.command()(audit.audit)
app.command()(verify.gate)
app.command()(decision.approve)
app.command()(decision.waive)
app.command()(decision.release)
app.command()(report.report)
app.command()(verify.verify)
app.command()(decision.revoke)
app.command()(monitor.monitor)
app.command()(decision.rollback)
app.command()(serve.serve)
app.command()(jobs.worker)
app.command()(backup.backup)
app.add_typer(jobs.jobs_app, name="jobs")
app.add_typer(policy.policy_app, name="policy")
app.add_typer(statements.statement_app, name="statement")
app.add_typer(statements.incident_app, name="incident")
app.add_typer(watermark.watermark_app, name="watermark")
app.add_typer(keys.keys_app, name="keys")
app.add_typer(trust.trust_app, name="trust")
app.add_typer(trust.log_app, name="log")
app.add_typer(witness.witness_app, name="witness")
