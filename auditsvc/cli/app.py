"""All commands.  Each file of this package holds one group; heavy libraries are imported when a command runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from auditsvc import __version__
from auditsvc.cli import (
    audit,
    data,
    decision,
    device,
    init,
    monitoring,
    policy,
    prune,
    report,
    serve,
    statements,
    trust,
    verify,
    watermark,
)

COMMANDS: dict[str, dict[str, tuple[Callable[..., None] | typer.Typer, str]]] = {
    "Prepare and audit": {
        "init": (init.init, "auditsvc init --model model.onnx --data images"),
        "prune": (prune.prune, "auditsvc prune --help"),
        "audit": (audit.audit, "auditsvc audit face-gender 2"),
        "demo": (report.demo, "auditsvc demo --case digits"),
    },
    "Decide and release": {
        "status": (decision.status, "auditsvc status"),
        "list": (decision.list_, "auditsvc list face-gender"),
        "show": (decision.show, "auditsvc show face-gender 2"),
        "approve": (decision.approve, "auditsvc approve face-gender 2 --as alice"),
        "reject": (decision.reject, "auditsvc reject face-gender 2 --as alice --reason 'fails at night'"),
        "waive": (
            decision.waive,
            "auditsvc waive face-gender 2 --rule slice-loss --reason '...' --until 2027-01-31 --as al",
        ),
        "release": (decision.release, "auditsvc release face-gender 2"),
        "rollback": (decision.rollback, "auditsvc rollback face-gender --version 1 --as alice --reason 'drift'"),
        "revoke": (decision.revoke, "auditsvc revoke face-gender 2 --as alice --reason 'fails at night'"),
    },
    "Verify and monitor": {
        "gate": (verify.gate, "auditsvc gate face-gender 2"),
        "verify": (verify.verify, "auditsvc verify releases/face-gender/2 --key release.pub"),
        "report": (report.report, "auditsvc report face-gender 2 --data dataset.yaml --format pdf"),
        "monitor": (monitoring.monitor, "auditsvc monitor face-gender --as mia"),
        "watch": (monitoring.watch_app, "auditsvc watch show face-gender"),
    },
    "Run the service": {
        "serve": (serve.serve, "auditsvc serve --port 8600"),
        "worker": (serve.worker, "auditsvc worker"),
        "signer": (serve.signer, "auditsvc signer --help"),
        "backup": (serve.backup, "auditsvc backup /mnt/copy"),
        "store": (serve.store_app, "auditsvc store --help"),
        "jobs": (serve.jobs_app, "auditsvc jobs list --state running"),
    },
    "Models, data and policies": {
        "model": (init.model_app, "auditsvc model check model.onnx"),
        "data": (data.data_app, "auditsvc data check dataset.yaml"),
        "device": (device.device_app, "auditsvc device --help"),
        "cost": (device.cost, "auditsvc cost --help"),
        "kit": (device.kit, "auditsvc kit --help"),
        "admit-measurement": (device.admit_measurement, "auditsvc admit-measurement --help"),
        "policy": (policy.policy_app, "auditsvc policy explain standard"),
        "terms": (policy.terms_app, "auditsvc terms show face-gender"),
        "statement": (statements.statement_app, "auditsvc statement list face-gender"),
        "incident": (statements.incident_app, "auditsvc incident list face-gender"),
        "watermark": (watermark.watermark_app, "auditsvc watermark --help"),
    },
    "Keys, trust and log": {
        "keys": (trust.keys_app, "auditsvc keys list"),
        "trust": (trust.trust_app, "auditsvc trust --help"),
        "log": (trust.log_app, "auditsvc log check"),
        "witness": (trust.witness_app, "auditsvc witness --help"),
    },
}
"""Every command with its example, by the section of the help text that lists it."""


class _Sections(TyperGroup):
    """Lists commands in sections, in the order of work."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each group of commands."""
        for title, commands in COMMANDS.items():
            known = ((name, self.get_command(ctx, name)) for name in commands)
            with formatter.section(title):
                formatter.write_dl([(name, one.get_short_help_str(66)) for name, one in known if one])


def _print_version(value: bool) -> None:
    if value:
        print(f"auditsvc {__version__}")
        raise typer.Exit


app = typer.Typer(
    name="auditsvc",
    cls=_Sections,
    help="Decides, with evidence that anyone can check, whether a pruned vision model may be released.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


for commands in COMMANDS.values():
    for name, (command, example) in commands.items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, epilog=f"Example: {example}")
        else:
            app.command(name, epilog=f"Example: {example}")(command)
