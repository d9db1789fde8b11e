"""``prune``: from a parent to one submitted candidate, or to the smallest that a policy approves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditsvc.cli.options import Json, Licence, ModelName, Person, PolicyName, Source, Store, ports_for
from auditsvc.cli.output import print_json
from auditsvc.cli.recipes import RecipeData, ladders_of, recipe_file, recipe_of, recovery_of, target_of
from auditsvc.cli.tracing import Halfway, QueriesFrom
from auditsvc.errors import InvalidInput

if TYPE_CHECKING:
    from auditsvc.measuring import Dataset
    from auditsvc.pipeline.marking import Marking
    from auditsvc.pipeline.parents import Question
    from auditsvc.pipeline.sweeping import Sweep
    from auditsvc.ports import Ports
    from auditsvc.pruning import Ladder
    from auditsvc.records import Candidate, Parent, Policy, Recipe, Timing

Words = list[str]


def prune(
    parent: Annotated[
        str,
        typer.Option(
            "--parent",
            help="The dense model: a model folder, an ONNX file, models:/NAME/VERSION or models:/NAME@ALIAS.",
        ),
    ],
    model: ModelName,
    source: Source,
    licence: Licence,
    calibration: Annotated[Path, typer.Option(help="A data set (labels unused) that is not audited.")],
    person: Person,
    method: Annotated[str, typer.Option(help="structured-l1, magnitude-global, n-m, none, ...")] = "magnitude-global",
    target: Annotated[
        Words, typer.Option(help="NAME=NUMBER: sparsity=0.3, macs=2, latency=1.5; may be repeated.")
    ] = [],  # noqa: B006
    recover: Annotated[
        Words, typer.Option(help="batch-norm, fine-tune:epochs=2, distillation:epochs=3,rate=0.03; may be repeated.")
    ] = [],  # noqa: B006
    number_format: Annotated[str | None, typer.Option("--format", help="int8, float16 or bfloat16.")] = None,
    data: Annotated[
        list[Path], typer.Option(help="A data set for recovery, labels or int8; the first one is the recipe's own.")
    ] = [],  # noqa: B006
    seed: Annotated[int, typer.Option(help="The recipe's seed.")] = 0,
    recipe: Annotated[Path | None, typer.Option(help="A whole recipe as JSON, instead of the options above.")] = None,
    onnx: Annotated[bool, typer.Option(help="Put the same model beside the weights as checked ONNX.")] = False,
    classes: Annotated[str | None, typer.Option(help="Of an ONNX parent: class names with commas between.")] = None,
    image: Annotated[str, typer.Option(help="Of an ONNX parent: channels x height x width.")] = "3x224x224",
    output: Annotated[str | None, typer.Option(help="Of an ONNX parent: the output that is audited.")] = None,
    sweep: Annotated[bool, typer.Option("--sweep", help="Find the smallest candidate that --policy approves.")] = False,
    ladder: Annotated[
        Words, typer.Option(help="With --sweep: METHOD:TARGET=A,B,C;OTHER=N; may be repeated, most promising first.")
    ] = [],  # noqa: B006
    audited: Annotated[Path | None, typer.Option("--audited", help="With --sweep: the data set to audit on.")] = None,
    goal: Annotated[
        str, typer.Option(help="With --sweep: bytes_compressed, bytes_dense, macs or parameters is made small.")
    ] = "bytes_compressed",
    policy: PolicyName = "standard",
    recipient: Annotated[str, typer.Option(help="Mark it as this recipient's copy, so that a leak is traced.")] = "",
    queries: QueriesFrom = None,
    halfway: Halfway = False,
    store: Store = None,
    json: Json = False,
) -> None:
    """Prune a parent, mark, register and submit the result.  With --sweep: the smallest that passes a policy."""
    from auditsvc.pipeline.making import register_parent
    from auditsvc.pipeline.marking import Marking
    from auditsvc.pipeline.parents import parent_folder
    from auditsvc.pipeline.sweeping import Sweep

    if sweep and audited is None:
        raise InvalidInput("a sweep audits every candidate: name the data set to audit on with --audited")
    ports = ports_for(store, quiet=json)
    seen, images = RecipeData(ports.datasets.open, data), ports.datasets.open(calibration)
    fields: dict[str, Any] = {"recovery": recovery_of(recover, seen), "data": seen.own, "seed": seed}
    fields["number_format"] = number_format
    facts = {"model": model, "source": source, "licence": licence}
    with parent_folder(parent, _question(classes, image, output), ports) as folder:
        dense, version = register_parent(folder, facts, ports)
    if audited is not None and sweep:
        dataset = ports.datasets.open(audited)
        search = Sweep(dense, images, dataset, _policy_for(policy, audited, dataset), ports, seen.sets, goal)
        _tell_sweep(search, ladders_of(ladder, fields), version, person, json=json)
        return
    chosen = recipe_of({**fields, "method": method, "targets": dict(target_of(text) for text in target)})
    marking = Marking(recipient, ports.datasets.open(queries) if queries else None, halfway)
    candidate = _made(dense, recipe_file(recipe) if recipe else chosen, images, seen, marking, ports, onnx=onnx)
    _tell(candidate, dense, images, version, person, ports, json=json)


def _question(classes: str | None, image: str, output: str | None) -> Question | None:
    """What an ONNX file does not say of itself."""
    from auditsvc.models import InputSpec
    from auditsvc.pipeline.parents import Question

    if classes is None:
        return None
    try:
        channels, height, width = (int(number) for number in image.split("x"))
        spec = InputSpec(channels=channels, height=height, width=width)
    except ValueError as error:
        raise InvalidInput(f"--image takes CHANNELSxHEIGHTxWIDTH, for instance 3x224x224, not {image!r}") from error
    return Question(tuple(name.strip() for name in classes.split(",")), spec, output)


def _made(
    parent: Parent,
    recipe: Recipe,
    calibration: Dataset,
    seen: RecipeData,
    marking: Marking,
    ports: Ports,
    *,
    onnx: bool,
) -> Candidate:
    """The candidate; a latency target is measured first and becomes the MACs that meet it."""
    from auditsvc.pipeline.making import make
    from auditsvc.pipeline.stored import load_stored
    from auditsvc.pruning import concrete

    fixed = concrete(load_stored(parent.files, ports), recipe, seen.sets, progress=ports.progress)
    if fixed != recipe:
        ports.progress.say(f"the latency is met with macs={fixed.targets['macs']:g}; that is the recipe now")
    with ports.progress.step("prune, mark, load again"):
        return make(parent, fixed, calibration, ports, seen.sets, onnx=onnx, marking=marking)


def _tell(
    candidate: Candidate, parent: Parent, images: Dataset, version: str, person: str, ports: Ports, *, json: bool
) -> None:
    """Submit, time, and say what the candidate costs beside its parent."""
    from auditsvc.pipeline.making import submit
    from auditsvc.pipeline.timing import cost_lines

    submission = submit(candidate, version, person, ports)
    timing, why = _timing(candidate, parent, images, ports)
    if json:
        more = {"timing": timing.model_dump(mode="json")} if timing else {"untimed": why}
        print_json({**submission.model_dump(mode="json", exclude_none=True), "card": candidate.card, **more})
        return
    print(f"{submission.model} version {submission.version}: {submission.candidate}")
    lines = cost_lines(candidate, parent, timing, ports)
    print("\n".join(f"  {line}" for line in lines))
    if timing is None:
        print(f"  latency was not measured: {why}")


def _timing(candidate: Candidate, parent: Parent, images: Dataset, ports: Ports) -> tuple[Timing | None, str]:
    from auditsvc.errors import Refused, Unavailable
    from auditsvc.pipeline.timing import timed

    try:
        return timed(candidate, parent, next(images.batches(64)).images, ports), ""
    except (Refused, Unavailable) as error:
        return None, str(error).splitlines()[0]


def _tell_sweep(sweep: Sweep, ladders: tuple[Ladder, ...], version: str, person: str, *, json: bool) -> None:
    """Sweep, submit the best, say what was tried; exit code 0, or 1 if nothing passed."""
    found = sweep.run(ladders)
    submission = sweep.submit(found, version, person)
    if json:
        best = submission.model_dump(mode="json", exclude_none=True) if submission else None
        print_json({"best": best, "audits": found.frontier.audits, "folder": str(found.folder)})
    else:
        for trial in found.frontier.trials:
            print(f"  {trial.recipe.method} {dict(trial.recipe.targets)}: {trial.ending} {trial.reason}".rstrip())
        words = f"{submission.model} version {submission.version}" if submission else "nothing passed"
        print(f"{words}; {found.frontier.audits} full audits; {found.folder}")
    raise typer.Exit(0 if submission else 1)


def _policy_for(policy: str, audited: Path, dataset: Dataset) -> Policy:
    """The policy, if it fits the data set."""
    from auditsvc.adapters.policy_files import faults_of_slices, read_policy

    rules = read_policy(policy)
    faults = faults_of_slices(rules, dataset.slices.names)
    if faults:
        raise InvalidInput(f"the policy {policy} does not fit the data set {audited}", faults)
    return rules
