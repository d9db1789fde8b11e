"""``prune``: from a parent to one submitted candidate, or to the smallest that a policy approves.

It also parses recipes and ladders from the command line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditsvc.cli.output import (
    Architecture,
    Classes,
    Confidence,
    Image,
    Json,
    Layout,
    Licence,
    ModelName,
    Output,
    Person,
    PolicyName,
    Prepared,
    Source,
    Store,
    context_for,
    described_by,
    print_json,
)
from auditsvc.cli.watermark import MixupQueries, QueriesFrom
from auditsvc.errors import InvalidInput
from auditsvc.records import Recipe, faults_of

if TYPE_CHECKING:
    from auditsvc.datasets import Dataset
    from auditsvc.ports import Context
    from auditsvc.pruning import Ladder
    from auditsvc.records import Candidate, Parent, Recipe, Timing
    from auditsvc.services.sweep import Sweep
    from auditsvc.services.watermarking import WatermarkOptions


DEFAULT_LADDERS = (
    "structured-l1:macs=1.25,1.5,2,2.5,3,4,6,8",
    "magnitude-global:sparsity=0.3,0.5,0.6,0.7,0.8,0.9,0.95",
)
"""The default ladders of a sweep: first what makes the model faster, then what only makes its files smaller."""


@dataclass
class RecipeData:
    """The data sets that a recipe sees, opened once each; the first one given is the recipe's own."""

    opener: Callable[[Path], Dataset]
    given: Sequence[Path] = ()
    opened: dict[Path, Dataset] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Open what was given."""
        for path in self.given:
            self.open(path)

    def open(self, path: Path) -> Dataset:
        """The data set of this folder."""
        if path not in self.opened:
            self.opened[path] = self.opener(path)
        return self.opened[path]

    @property
    def sets(self) -> tuple[Dataset, ...]:
        """All that were opened."""
        return tuple(self.opened.values())

    @property
    def own(self) -> str | None:
        """The digest of the recipe's own data set."""
        return self.open(self.given[0]).ref.digest if self.given else None


def recipe_of(fields: dict[str, Any]) -> Recipe:
    """A recipe of these fields.

    Raises:
        InvalidInput: with every fault.
    """
    from pydantic import ValidationError

    try:
        return Recipe.model_validate(fields)
    except ValidationError as error:
        raise InvalidInput("this is not a valid recipe", faults_of(error)) from error


def recipe_file(path: Path) -> Recipe:
    """A recipe from a JSON file: the record as ``auditsvc prune --json`` and reports show it, ``kind`` or not.

    Raises:
        InvalidInput: no such file, or no recipe in it.
    """
    try:
        fields = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} can't be read as JSON: {error}") from error
    if not isinstance(fields, dict):
        raise InvalidInput(f"{path} holds no JSON object")
    return recipe_of({name: value for name, value in fields.items() if name != "kind"})


def target_of(text: str) -> tuple[str, float]:
    """``NAME=NUMBER``."""
    name, sign, number = text.partition("=")
    try:
        return name, float(number) if sign else float("nan")
    except ValueError as error:
        raise InvalidInput(f"--target takes NAME=NUMBER, not {text!r}") from error


def recovery_of(texts: Sequence[str], data: RecipeData) -> dict[str, Any]:
    """Recovery steps: ``batch-norm``, ``distillation:epochs=3,rate=0.03``, ``fine-tune:epochs=1,data=FOLDER``.

    Raises:
        InvalidInput: words that are no recovery.
    """
    found: dict[str, Any] = {}
    for text in texts:
        kind, _, rest = text.partition(":")
        numbers: dict[str, Any] = {}
        for part in filter(None, rest.split(",")):
            name, sign, value = part.partition("=")
            if not sign:
                raise InvalidInput(f"--recover takes KIND:NAME=VALUE,NAME=VALUE, not {text!r}")
            numbers[name] = data.open(Path(value)).ref.digest if name == "data" else _plain(value)
        found[kind] = numbers
    return found


def _plain(text: str) -> Any:
    """A number or truth value where it is one, else the words."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def ladders_of(texts: Sequence[str], fields: dict[str, Any]) -> tuple[Ladder, ...]:
    """``structured-l1:macs=1.5,2,3;round_to=4``: the target with several numbers is the one that rises.

    ``fields`` are the other fields of every recipe.

    Raises:
        InvalidInput: words that are no ladder.
    """
    return tuple(_ladder(text, fields) for text in texts or DEFAULT_LADDERS)


def _ladder(text: str, fields: dict[str, Any]) -> Ladder:
    from auditsvc.pruning import ladder

    method, _, rest = text.partition(":")
    try:
        targets = {
            name: [float(number) for number in numbers.split(",")]
            for name, numbers in (part.split("=") for part in rest.split(";"))
        }
    except ValueError as error:
        raise InvalidInput(f"--ladder takes METHOD:TARGET=A,B,C;OTHER=N, not {text!r}") from error
    rising = [name for name, numbers in targets.items() if len(numbers) > 1]
    if len(rising) != 1:
        raise InvalidInput(f"one target of the ladder {text!r} needs several numbers; {len(rising)} have them")
    fixed = {name: numbers[0] for name, numbers in targets.items() if name != rising[0]}
    return ladder(method, rising[0], targets[rising[0]], **fixed, **fields)


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
    onnx: Annotated[bool, typer.Option(help="Also write the model as ONNX, checked against the weights.")] = False,
    runtime: Annotated[
        list[str], typer.Option(help="Also write it for openvino or mnn, made from the ONNX file; may be repeated.")
    ] = [],  # noqa: B006
    classes: Classes = None,
    image: Image = None,
    output: Output = None,
    decoding: Layout = None,
    confidence: Confidence = None,
    architecture: Architecture = None,
    preprocessing: Prepared = None,
    sweep: Annotated[bool, typer.Option("--sweep", help="Find the smallest candidate that --policy approves.")] = False,
    ladder: Annotated[
        Words, typer.Option(help="With --sweep: METHOD:TARGET=A,B,C;OTHER=N; may be repeated, most promising first.")
    ] = [],  # noqa: B006
    audited: Annotated[Path | None, typer.Option("--audited", help="With --sweep: the data set to audit on.")] = None,
    goal: Annotated[
        str, typer.Option(help="With --sweep: bytes_compressed, bytes_dense, macs or parameters is made small.")
    ] = "bytes_compressed",
    policy: PolicyName = "standard",
    recipient: Annotated[
        str, typer.Option(help="Watermark it as this recipient's copy, so that a leak can be traced.")
    ] = "",
    queries: QueriesFrom = None,
    mixup_queries: MixupQueries = False,
    store: Store = None,
    json: Json = False,
) -> None:
    """Prune a parent, watermark, register and submit the result.  With --sweep: the smallest that passes a policy."""
    from auditsvc.services.candidates import register_parent
    from auditsvc.services.model_store import resolve_model, said_by
    from auditsvc.services.policies import resolve_policy
    from auditsvc.services.sweep import Sweep
    from auditsvc.services.watermarking import WatermarkOptions

    if sweep and audited is None:
        raise InvalidInput("a sweep audits every candidate: name the data set to audit on with --audited")
    ctx = context_for(store, create=True, quiet=json)
    seen, images = RecipeData(ctx.datasets.open, data), ctx.datasets.open(calibration)
    fields: dict[str, Any] = {"recovery": recovery_of(recover, seen), "data": seen.own, "seed": seed}
    fields["number_format"] = number_format
    facts = {"model": model, "source": source, "licence": licence}
    said = described_by(images.ref.task, classes, image, output, decoding, confidence, architecture, preprocessing)
    with resolve_model(ctx, parent, said, said_by(images)) as folder:
        dense, version = register_parent(ctx, folder, facts)
    if audited is not None and sweep:
        dataset = ctx.datasets.open(audited)
        search = Sweep(dense, images, dataset, resolve_policy(policy, ctx.ledger), ctx, seen.sets, goal)
        _run_sweep(search, ladders_of(ladder, fields), version, person, json=json)
        return
    chosen = recipe_of({**fields, "method": method, "targets": dict(target_of(text) for text in target)})
    marking = WatermarkOptions(recipient, ctx.datasets.open(queries) if queries else None, mixup_queries)
    runtimes = [*runtime, *(["onnxruntime"] if onnx else [])]
    candidate = _made(ctx, dense, recipe_file(recipe) if recipe else chosen, images, seen, marking, runtimes)
    _submit_and_print(ctx, candidate, dense, images, version, person, json=json)


def _made(
    ctx: Context,
    parent: Parent,
    recipe: Recipe,
    calibration: Dataset,
    seen: RecipeData,
    marking: WatermarkOptions,
    runtimes: Sequence[str],
) -> Candidate:
    """The candidate; a latency target is measured first and becomes the MACs that meet it."""
    from auditsvc.pruning import concrete
    from auditsvc.services.candidates import prune_candidate
    from auditsvc.services.model_store import load_stored

    fixed = concrete(load_stored(ctx, parent.files), recipe, seen.sets, progress=ctx.progress)
    if fixed != recipe:
        ctx.progress.say(f"the latency is met with macs={fixed.targets['macs']:g}; that is the recipe now")
    with ctx.progress.step("prune, watermark, reload"):
        return prune_candidate(ctx, parent, fixed, calibration, seen.sets, runtimes=runtimes, marking=marking)


def _submit_and_print(
    ctx: Context, candidate: Candidate, parent: Parent, images: Dataset, version: str, person: str, *, json: bool
) -> None:
    """Submit, measure the latency, and print what the candidate costs compared with its parent."""
    from auditsvc.services.candidates import submit
    from auditsvc.services.sweep import cost_lines

    submission = submit(ctx, candidate, version, person)
    timing, why = _timing(ctx, candidate, parent, images)
    if json:
        more = {"timing": timing.model_dump(mode="json")} if timing else {"untimed": why}
        print_json({**submission.model_dump(mode="json", exclude_none=True), "card": candidate.card, **more})
        return
    print(f"{submission.model} version {submission.version}: {submission.candidate}")
    lines = cost_lines(ctx, candidate, parent, timing)
    print("\n".join(f"  {line}" for line in lines))
    if timing is None:
        print(f"  latency was not measured: {why}")


def _timing(ctx: Context, candidate: Candidate, parent: Parent, images: Dataset) -> tuple[Timing | None, str]:
    from auditsvc.errors import Refused, Unavailable
    from auditsvc.services.sweep import measure_latency

    try:
        return measure_latency(ctx, candidate, parent, images), ""
    except (Refused, Unavailable) as error:
        return None, str(error).splitlines()[0]


def _run_sweep(sweep: Sweep, ladders: tuple[Ladder, ...], version: str, person: str, *, json: bool) -> None:
    """Sweep, submit the best, print what was tried; exit code 0, or 1 if nothing passed."""
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
