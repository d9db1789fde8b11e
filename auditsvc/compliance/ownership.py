"""Cost of ownership for buyers: declared prices and volumes times what evidence measured, and what a contract needs.

The annual volumes and every price are declared by the buyer; latency, energy and error rates come from evidence with
their intervals.  What was not measured is left out of the total and named, so the total is then a lower bound.  The
tornado varies one input at a time: a measured one over its interval, a declared one by its uncertainty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from auditsvc.compliance.assessment.evidence_status import covered, topics_of
from auditsvc.compliance.render.charts import TornadoBar, tornado_chart
from auditsvc.compliance.render.html import template_environment
from auditsvc.compliance.report.wording import plain
from auditsvc.errors import InvalidInput
from auditsvc.records import OVERALL, Evidence, Measured, Unmeasured, faults_of
from auditsvc.resources import resource_dir

Positive = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Shares = dict[str, Annotated[float, Field(gt=0, le=1)]]


class _Declared(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Prices(_Declared):
    """Prices and volumes.  ``conditions`` and ``slices`` say in which shares of its use the model works under which
    conditions and for whom; ``positives`` is the share of images with something to find."""

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    years: Annotated[float, Field(gt=0, le=50)]
    images_per_year: Positive
    devices: Positive = 0
    device_price: Positive = 0
    electricity_per_kwh: Positive = 0
    compute_per_hour: Positive = 0
    audits_per_year: Positive = 0
    audit_price: Positive = 0
    monitoring_per_year: Positive = 0
    labels_per_year: Positive = 0
    label_price: Positive = 0
    false_negative: Positive = 0
    false_positive: Positive = 0
    error: Positive = 0
    positives: Annotated[float, Field(ge=0, le=1)] = 0.5
    conditions: Shares = {"clean": 1.0}
    slices: Shares = {OVERALL: 1.0}
    uncertainty: Annotated[float, Field(ge=0, lt=1)] = 0.2

    @model_validator(mode="after")
    def _whole(self) -> Prices:
        for name in ("conditions", "slices"):
            if abs(sum(getattr(self, name).values()) - 1) > 1e-6:
                raise ValueError(f"the shares of {name} must add up to 1")
        return self


class Profile(_Declared):
    """A class of device and its budgets for the model."""

    profile: str
    title: str
    runtimes: tuple[str, ...]
    memory_mb: Positive
    storage_mb: Positive
    latency_ms: Positive
    power_w: Positive
    why: str


class Clause(_Declared):
    """One subject of a contract: the kinds of evidence that fill it, and what people must write."""

    title: str
    evidence: tuple[str, ...]
    people: str


class Annex(_Declared):
    """The clauses of one set of contract clauses."""

    annex: str
    clauses: tuple[Clause, ...]


D = TypeVar("D", bound=_Declared)


def read_declared(path: Path, kind: type[D]) -> D:
    """Prices, a profile or an annex from a YAML file.

    Raises:
        InvalidInput: with every fault of the file.
    """
    try:
        return kind.model_validate(yaml.safe_load(path.read_text("utf-8")))
    except OSError as error:
        raise InvalidInput(f"{path} can't be read: {error.strerror}") from error
    except ValidationError as error:
        raise InvalidInput(f"{path} can't be used", faults_of(error)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is no YAML: {str(error).splitlines()[0]}") from error


Outcome = Measured | Unmeasured


@dataclass(frozen=True)
class Side:
    """One model's measured quantities: ``latency_ms``, ``joules``, and the rate of each kind of error."""

    title: str
    latency_ms: Outcome
    joules: Outcome
    rates: Mapping[str, Outcome]


def side_of(title: str, evidence: Sequence[Evidence], prices: Prices, *, parent: bool = False) -> Side:
    """The quantities of the candidate of this evidence, or of its ``parent``."""

    def first(check: str, metric: str, slice_name: str = OVERALL) -> Outcome:
        runs = [one for one in evidence if check in ("", one.key.check)]
        found = (one.reading(metric, slice_name) for one in runs)
        return next((one for one in found if isinstance(one, Measured)), Unmeasured(
            reason=f"no evidence has {check or 'any check'}/{metric} on {slice_name}"))  # fmt: skip

    whose = "parent_" if parent else ""
    own = Unmeasured(reason="energy is measured of the candidate alone")
    energy = own if parent else first("energy", "joules_per_image")
    kinds = {"false_negative": f"{whose}false_negative", "false_positive": f"{whose}false_positive",
             "error": "parent" if parent else "score"}  # fmt: skip
    rates = {}
    for kind, metric in kinds.items():
        if not getattr(prices, kind):
            continue
        parts = [(share * weight, first("", f"{metric}.{condition}", name))
                 for condition, share in prices.conditions.items()
                 for name, weight in prices.slices.items()]  # fmt: skip
        rates[kind] = _weighted(parts, flipped=kind == "error")
    return Side(title, first("cost", f"{whose}latency_p50"), energy, rates)


def _weighted(parts: Sequence[tuple[float, Outcome]], *, flipped: bool) -> Outcome:
    """The mean over shares; one part that is not measured leaves the whole unmeasured."""
    if missing := next((one for _, one in parts if isinstance(one, Unmeasured)), None):
        return missing
    known = [(share, one) for share, one in parts if isinstance(one, Measured)]
    value, low, high = (sum(share * getattr(one, end) for share, one in known) for end in ("value", "low", "high"))
    images = min(one.images for _, one in known)
    if flipped:
        value, low, high = 1 - value, 1 - high, 1 - low
    return Measured(value=value, low=min(low, value), high=max(high, value), images=images)


_DECLARED = ("images_per_year", "devices", "device_price", "electricity_per_kwh", "compute_per_hour", "audit_price",
             "monitoring_per_year", "label_price", "false_negative", "false_positive", "error")  # fmt: skip


def amounts(prices: Prices, side: Side, changed: Mapping[str, float] | None = None) -> dict[str, float | Unmeasured]:
    """The cost of each kind over all years; ``changed`` inputs take the place of declared or measured ones."""
    at = {name: getattr(prices, name) for name in Prices.model_fields} | dict(changed or {})
    images, years = at["images_per_year"] * prices.years, prices.years

    def times(name: str, outcome: Outcome, price: float) -> float | Unmeasured:
        if isinstance(outcome, Unmeasured):
            return outcome if price else 0.0
        return float(at.get(name, outcome.value)) * price

    parts: dict[str, float | Unmeasured] = {
        "devices": at["devices"] * at["device_price"],
        "compute": times("latency_ms", side.latency_ms, images / 3.6e6 * at["compute_per_hour"]),
        "energy": times("joules", side.joules, images / 3.6e6 * at["electricity_per_kwh"]),
        "audits": at["audits_per_year"] * years * at["audit_price"],
        "monitoring": at["monitoring_per_year"] * years,
        "labelling": at["labels_per_year"] * years * at["label_price"],
    }
    among = {"false_negative": prices.positives, "false_positive": 1 - prices.positives, "error": 1.0}
    for kind, rate in side.rates.items():
        parts[f"{kind.replace('_', ' ')}s"] = times(kind + ".rate", rate, images * among[kind] * at[kind])
    return parts


def total(parts: Mapping[str, float | Unmeasured]) -> float:
    """The sum of what is known."""
    return sum(one for one in parts.values() if not isinstance(one, Unmeasured))


def sensitivity(prices: Prices, side: Side) -> list[TornadoBar]:
    """How far the total moves with each input alone, the largest first; inputs that move nothing are left out."""
    ends = {name: (value * (1 - prices.uncertainty), value * (1 + prices.uncertainty))
            for name in _DECLARED if (value := getattr(prices, name))}  # fmt: skip
    ends |= {name: (one.low, one.high) for name, one in _measured(side).items() if isinstance(one, Measured)}
    base = total(amounts(prices, side))

    def at(name: str, end: float) -> float:
        return total(amounts(prices, side, {name: end}))

    bars = [TornadoBar(name, at(name, low), at(name, high), base) for name, (low, high) in ends.items()]
    return sorted((bar for bar in bars if bar.high != bar.low), key=lambda bar: -abs(bar.high - bar.low))


def _measured(side: Side) -> dict[str, Outcome]:
    rates = {f"{kind}.rate": rate for kind, rate in side.rates.items()}
    return {"latency_ms": side.latency_ms, "joules": side.joules, **rates}


Fit = Literal["fits", "does not fit", "unknown"]


def fits(profile: Profile, evidence: Sequence[Evidence]) -> Iterator[tuple[str, Fit, str]]:
    """Each budget of a profile: the verdict, and whether it was measured on a device or estimated from this machine.

    Sizes are counted and hold anywhere.  Latency, memory and power count if a device measured them; those of this
    machine are shown as estimates, and the verdict is unknown.
    """
    cost = next((one for one in evidence if one.key.check == "cost"), None)
    energy = next((one for one in evidence if one.key.check == "energy"), None)
    run = str(cost.key.parameters["run"]) if cost else ""
    on_device = "@" in run
    yield (
        "runtime",
        "unknown" if not run else "fits" if run.split("/")[0] in profile.runtimes else "does not fit",
        run or "no evidence of cost",
    )
    budgets = (("storage", "file_bytes", profile.storage_mb, 1e6, "MB"),
               ("memory", "peak_memory", profile.memory_mb, 1e6, "MB"),
               ("latency", "latency_p95", profile.latency_ms, 1.0, "ms"))  # fmt: skip
    for what, metric, limit, scale, unit in budgets:
        found: Outcome = cost.reading(metric, OVERALL) if cost else Unmeasured(reason="no evidence of the check cost")
        if isinstance(found, Unmeasured):
            yield what, "unknown", found.reason
            continue
        how = "counted" if what == "storage" else "measured on the device" if on_device else "estimated: measured here"
        value, low, high = (end / scale for end in (found.value, found.low, found.high))
        verdict: Fit = "unknown" if how.startswith("estimated") else "fits" if high <= limit else "does not fit"
        ends = f" ({low:,.3g} to {high:,.3g})" if low != high else ""
        yield what, verdict, f"{value:,.3g}{ends} of {limit:,.4g} {unit}; {how}"
    joules: Outcome = (
        energy.reading("joules_per_image", OVERALL) if energy else Unmeasured(reason="no evidence of the check energy")
    )
    if isinstance(joules, Unmeasured) or energy is None or "@" not in str(energy.key.parameters["run"]):
        yield "power", "unknown", joules.reason if isinstance(joules, Unmeasured) else "measured on another machine"
        return
    watts = joules.high * 1000 / profile.latency_ms
    verdict = "fits" if watts <= profile.power_w else "does not fit"
    yield (
        "power",
        verdict,
        f"{watts:.3g} W above rest at one image every {profile.latency_ms:g} ms; measured on the device",
    )


def page(model: str, prices: Prices, sides: Sequence[Side], fit: Sequence[tuple[str, Fit, str]], profile: str) -> str:
    """The buyer's page as one HTML file: totals side by side, every input, what is not known, the tornado."""
    from markupsafe import Markup

    found = [amounts(prices, side) for side in sides]
    folder = resource_dir("templates")
    template = template_environment(folder)
    template.filters["plain"] = plain
    chart = tornado_chart(
        [replace(bar, name=_words(bar.name)) for bar in sensitivity(prices, sides[0])], prices.currency
    )
    return template.get_template("ownership.html.j2").render(
        model=model, prices=prices, sides=sides, fit=fit, profile=profile,
        rows=[[name, *(_amount(one.get(name, 0.0)) for one in found)] for name in found[0]],
        totals=[_amount(total(one)) for one in found],
        gaps=[f"{side.title}, {name}: {one.reason}" for side, parts in zip(sides, found, strict=True)
              for name, one in parts.items() if isinstance(one, Unmeasured)],
        quantities=[(f"{side.title}, {_words(name)}", _outcome(one)) for side in sides
                    for name, one in _measured(side).items()],
        inputs=[(_words(name), plain(value)) for name, value in prices.model_dump().items()],
        chart=Markup(chart.svg), style=Markup((folder / "report.css").read_text("utf-8")),  # noqa: S704 - our file
    )  # fmt: skip


def annex(clauses: Annex, model: str, evidence: Sequence[Evidence]) -> str:
    """The annex as Markdown: for each subject what was measured and by which evidence, and what people must fill in."""
    known, lines = covered(tuple(evidence)), [f"# Supplier's annex: {model}", "", f"Clauses: {clauses.annex}", ""]
    for clause in clauses.clauses:
        lines += [f"## {clause.title}", ""]
        for kind in clause.evidence:
            runs = [one for one in evidence if kind in topics_of(one) and kind in known]
            shown = ", ".join(
                f"{one.key.check} on {one.dataset.name}, {one.dataset.images} images ({one.digest})" for one in runs
            )
            lines.append(f"- {kind}: {shown or 'not measured'}")
        lines += ["", f"To fill in: {clause.people}", "", "> ", ""]
    return "\n".join(lines)


def _words(name: str) -> str:
    """An input as it is printed: ``latency, ms``, ``rate of false positives``."""
    kind, _, rate = name.partition(".")
    if rate or name in ("error", "false_positive", "false_negative"):
        return ("rate of " if rate else "price of one ") + kind.replace("_", " ")
    return {"latency_ms": "latency of one image, ms", "joules": "energy for one image, J"}.get(
        name, name.replace("_per_", " per ").replace("_", " ")
    )


def _amount(value: float | Unmeasured) -> str:
    if isinstance(value, Unmeasured):
        return "not known"
    return f"{value:,.0f}" if value >= 10 or not value else f"{value:.2g}"


def _outcome(one: Outcome) -> str:
    if isinstance(one, Unmeasured):
        return f"not measured: {one.reason}"
    return f"{one.value:.4g} ({one.low:.4g} to {one.high:.4g}; {one.images})"
