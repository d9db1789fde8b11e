"""``prune`` and ``audit``: from model folders to decisions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auditsvc.cli.options import Json, Person, PolicyName, Store, ports_for
from auditsvc.cli.output import print_json
from auditsvc.errors import InvalidInput

if TYPE_CHECKING:
    from auditsvc.ports import Ports
    from auditsvc.records import Candidate, Decision

ParentFolder = Annotated[
    Path, typer.Option("--parent", help="The dense model: model.safetensors and architecture.json.")
]
ModelName = Annotated[str, typer.Option("--model", help="The model's name in the registry.")]
Source = Annotated[str, typer.Option(help="Where the parent comes from.")]
Licence = Annotated[str, typer.Option(help="The parent's licence.")]


def prune(
    parent: ParentFolder,
    model: ModelName,
    source: Source,
    licence: Licence,
    calibration: Annotated[Path, typer.Option(help="A data set (labels unused) that is not audited.")],
    person: Person,
    target: Annotated[list[str], typer.Option(help="NAME=NUMBER, for instance sparsity=0.3; may be repeated.")],
    method: Annotated[str, typer.Option(help="The pruning method.")] = "magnitude-global",
    seed: Annotated[int, typer.Option(help="The recipe's seed.")] = 0,
    recipient: Annotated[str, typer.Option(help="Mark it as this recipient's copy, so that a leak is traced.")] = "",
    queries: Annotated[
        Path | None,
        typer.Option(help="A data set for the test by answers alone, not audited. [default: a third of --calibration]"),
    ] = None,
    halfway: Annotated[
        bool, typer.Option("--halfway", help="Double exposures of it: a stronger test, slower.")
    ] = False,
    store: Store = None,
    json: Json = False,
) -> None:
    """Prune a parent, mark the result, register it in MLflow and submit it."""
    from auditsvc.pipeline.making import make, register_parent, submit
    from auditsvc.pipeline.marking import Marking
    from auditsvc.records import Recipe

    ports = ports_for(store, quiet=json)
    recipe = Recipe(method=method, targets=dict(_target(text) for text in target), seed=seed)
    with ports.progress.step("prune, mark, load again, submit"):
        dense, version = register_parent(parent, {"model": model, "source": source, "licence": licence}, ports)
        marking = Marking(recipient, ports.datasets.open(queries) if queries else None, halfway)
        candidate = make(dense, recipe, ports.datasets.open(calibration), ports, marking=marking)
        submission = submit(candidate, version, person, ports)
    if json:
        print_json(submission)
    else:
        print(f"{submission.model} version {submission.version}: {submission.candidate}")


def _target(text: str) -> tuple[str, float]:
    name, sign, number = text.partition("=")
    try:
        return name, float(number) if sign else float("nan")
    except ValueError as error:
        raise InvalidInput(f"--target takes NAME=NUMBER, not {text!r}") from error


def audit(
    data: Annotated[Path, typer.Option(help="The data set: a folder with dataset.yaml and metadata.csv.")],
    model: ModelName,
    version: Annotated[str | None, typer.Option(help="A version that was submitted.")] = None,
    candidate: Annotated[Path | None, typer.Option(help="Or: a model folder that was pruned elsewhere.")] = None,
    parent: Annotated[Path | None, typer.Option(help="Its parent's folder, with --candidate.")] = None,
    source: Source = "not stated",
    licence: Licence = "not stated",
    person: Person = "nobody",
    policy: PolicyName = "standard",
    store: Store = None,
    json: Json = False,
) -> None:
    """Measure a candidate beside its parent, judge it, write its report.  Exit code as ``gate``'s."""
    from auditsvc.adapters.policy_files import faults_of_slices, read_policy
    from auditsvc.pipeline.auditing import audit as measure
    from auditsvc.pipeline.deciding import judge
    from auditsvc.pipeline.reporting import write_report

    rules = read_policy(policy)
    ports = ports_for(store, quiet=json)
    dataset = ports.datasets.open(data)
    faults = faults_of_slices(rules, dataset.slices.names)
    if faults:
        raise InvalidInput(f"the policy {policy} does not fit the data set {data}", faults)
    facts = {"model": model, "source": source, "licence": licence}
    chosen = _chosen(version, candidate, parent, facts, person, data, ports)
    decision = judge(chosen, rules, measure(chosen, rules, dataset, ports), ports)
    (report,) = write_report(chosen, decision, dataset, ports)
    _print_decision(decision, report, json=json)
    raise typer.Exit({"approved": 0, "rejected": 1, "inconclusive": 3}[decision.outcome])


def _chosen(
    version: str | None,
    folder: Path | None,
    parent: Path | None,
    facts: dict[str, str],
    person: str,
    data: Path,
    ports: Ports,
) -> Candidate:
    """The candidate that is meant: a submitted version, or a folder that is admitted now."""
    from auditsvc.errors import NotFound
    from auditsvc.pipeline.making import admit, register_parent, submit
    from auditsvc.records import Candidate, Submission

    if version is not None and folder is None:
        known = ports.ledger.find(Submission, f"{facts['model']}/{version}")
        if not known:
            raise NotFound(f"no candidate was submitted as {facts['model']} version {version}")
        return ports.ledger.get(Candidate, known[-1].candidate)
    if folder is None or parent is None:
        raise InvalidInput("say what to audit: --version N, or --candidate FOLDER with --parent FOLDER")
    if person == "nobody":
        raise InvalidInput("say who submits the candidate with --as NAME; who submits can't approve")
    dense, parent_version = register_parent(parent, facts, ports)
    admitted = admit(folder, dense, ports.datasets.open(data), ports)
    submit(admitted, parent_version, person, ports)
    return admitted


def _print_decision(decision: Decision, report: Path, *, json: bool) -> None:
    if json:
        findings = [item.model_dump(mode="json", exclude_none=True) for item in decision.findings]
        print_json(
            {"decision": decision.digest, "outcome": decision.outcome, "findings": findings, "report": str(report)}
        )
        return
    print(f"{decision.outcome} under {decision.policy_name}")
    for item in decision.findings:
        print(f"  {item.severity:<5} {item.verdict:<9} {item.rule}: {item.words}")
    print(f"report {report}")
