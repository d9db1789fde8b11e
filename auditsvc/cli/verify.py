"""``gate`` and ``verify``: questions, answered fast.  Torch is not imported here, MLflow only to compare the files of a
version that is approved, where a server or another database keeps them.

``verify --report``: whether every number of a report is what the release's evidence says.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auditsvc.cli.output import Json, Model, Store, Version, context_for, print_json
from auditsvc.errors import InvalidInput

if TYPE_CHECKING:
    from auditsvc.records import Verification


VERDICT_CODES = {"VALID": 0, "INVALID": 1, "UNKNOWN": 3, "REVOKED": 5}


def gate(
    model: Model,
    version: Version,
    policy: Annotated[str | None, typer.Option(help="The policy of the decision (name or digest).")] = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Ask whether this version may be used.  Exit code 0 approved, 1 rejected, 3 inconclusive, 5 revoked.

    Exit code 4 if the ledger does not follow from its log: see `auditsvc log check`.
    """
    from auditsvc.services.gate_query import query_gate
    from auditsvc.services.log_check import check_log
    from auditsvc.services.registry import with_content

    ctx = context_for(store)
    check_log(ctx).require()
    answer = with_content(ctx, query_gate(ctx.ledger, model, version, policy, at=ctx.clock.now()))
    if json:
        print_json(answer)
    else:
        under = f" under {answer.policy} ({answer.policy_digest})" if answer.policy else ""
        print(f"{answer.model} version {answer.version}: {answer.answer}{under}")
        for one in answer.data:
            print(f"  on {one.name}: {one.images} images ({one.digest})")
        if answer.review:
            print(f"  needs review: {answer.review}")
        for reason in answer.reasons:
            print(f"  {reason}")
    raise typer.Exit(answer.exit_code)


def verify(
    folder: Annotated[Path, typer.Argument(help="A release: a folder with release/ and attest/.")],
    key: Annotated[
        Path, typer.Option(help="The release key (PEM), or a trust policy (JSON), not taken from the release.")
    ],
    trust: Annotated[
        str | None,
        typer.Option(help="Published keys and revocations: a folder or a URL (.../v1/trust), signed by --key."),
    ] = None,
    parent: Annotated[
        list[Path] | None, typer.Option(help="The release of an ancestor, to be verified too; may be repeated.")
    ] = None,
    resource: Annotated[str | None, typer.Option(help="What it must be: pkg:mlflow/MODEL@VERSION.")] = None,
    policy: Annotated[
        list[str] | None, typer.Option(help="An accepted policy, by digest; may be repeated. [default: any]")
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="An accepted data set, by digest; may be repeated. [default: any]")
    ] = None,
    min_images: Annotated[int | None, typer.Option(min=1, help="The least number of audited images.")] = None,
    attest: Annotated[Path | None, typer.Option(help="The attestations, if not in FOLDER/attest.")] = None,
    memory: Annotated[
        Path | None,
        typer.Option(help="Where the versions seen of --trust are stored. [default: ~/.local/state/auditsvc/trust]"),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="A report.json of this release: is every number in the evidence?")
    ] = None,
    json: Json = False,
) -> None:
    """Verify offline that this is what was approved.  Exit code 0 VALID, 1 INVALID, 3 UNKNOWN, 5 REVOKED."""
    from auditsvc.provenance import TrustRoot
    from auditsvc.provenance import verify as check

    if not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder; give the release's folder, the one that holds release/")
    files = folder / "release" if (folder / "release").is_dir() else folder
    now = datetime.now(UTC)
    if trust is None:
        root = TrustRoot.load(key)
    elif key.is_file():
        from auditsvc.provenance.trust.tuf_client import default_state_dir, fetch_trust

        root = fetch_trust(trust, key.read_bytes(), now, memory or default_state_dir())
    else:
        raise InvalidInput(f"no key at {key}; give the file release.pub, or the first root metadata, from elsewhere")
    root = root.requiring(policies=policy or (), datasets=data or (), min_images=min_images or 0)
    found = check(files, attest or folder / "attest", trust=root, at=now, resource=resource, parents=parent or ())
    if report is not None:
        try:
            from auditsvc.cli.report import with_report
        except ImportError as error:
            raise InvalidInput("--report needs the complete package: pip install auditsvc") from error
        found = with_report(found, attest or folder / "attest", report)
    if json:
        print_json(found)
    else:
        _print(found, folder)
    raise typer.Exit(VERDICT_CODES[found.verdict])


def _print(found: Verification, folder: Path) -> None:
    print(f"{found.verdict} {folder}")
    for step in found.steps:
        held, code = ("ok    ", "") if step.ok else ("FAILED", f"{step.code} ")
        print(f"  {held} {step.step}: {code}{step.detail}")
    for note in found.notes:
        print(f"  note   {note}")
