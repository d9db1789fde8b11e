"""Policies: those in use, the built-in ones, and a backtest of another policy on past decisions.

The compliance frameworks that reports map evidence to.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from auditsvc.compliance.assessment.framework import Framework, load_frameworks
from auditsvc.errors import NotFound
from auditsvc.records import Digest, Name, Policy
from auditsvc.resources import resource_dir
from auditsvc.services.decisions import BacktestRow, backtest
from auditsvc.web.auth.authentication import Router, site_of
from auditsvc.web.record_routes import record_router

router = Router(tags=["policies"])


class FrameworkSummary(BaseModel):
    """A framework without its requirements."""

    framework: Name
    name: str
    version: str
    standing: str
    requirements: int


@router.get("/v1/frameworks", needs="reader", summary="List frameworks")
def list_frameworks(request: Request) -> list[FrameworkSummary]:  # noqa: ARG001 - a route with a role takes its request
    """Every framework, with the date on which a person last compared it with its source."""
    return [
        FrameworkSummary(
            framework=one.framework,
            name=one.name,
            version=one.version,
            standing=one.standing,
            requirements=len(one.requirements),
        )
        for one in load_frameworks(resource_dir("policies"))
    ]


@router.get("/v1/frameworks/{framework}", needs="reader", summary="Get one framework")
def get_framework(
    request: Request,  # noqa: ARG001 - as above
    framework: Annotated[Name, Path(description="`framework` of the list.")],
) -> Framework:
    """All requirements, with the evidence that each needs, and the date from which it applies."""
    for one in load_frameworks(resource_dir("policies")):
        if one.framework == framework:
            return one
    raise NotFound(f"no framework {framework}")


record_router(router, Policy, "policies", singular="policy", about="A policy's name, or `name/version`.")


class BacktestRequest(BaseModel):
    """A policy as YAML, and the model whose decisions are used; all models by default."""

    policy: Annotated[str, Field(min_length=1, max_length=40_000, description="The text of a policy file.")]
    model: Name | None = None


class BacktestResult(BaseModel):
    """What this policy would have decided for each candidate, and how many decisions would change."""

    policy: Digest
    changed: int
    decisions: list[BacktestRow]


@router.post("/v1/policies/backtests", needs="reader", summary="Backtest a policy")
def create_backtest(request: Request, request_body: BacktestRequest) -> BacktestResult:
    """Decides again for every candidate, using the stored evidence. Nothing is measured or stored.

    An invalid policy is refused with every fault and its line.
    """
    from auditsvc.services.policies import parse_policy

    policy = parse_policy(request_body.policy, "policy")
    found = list(backtest(policy, site_of(request).ledger, request_body.model))
    return BacktestResult(policy=policy.digest, changed=sum(item.turned for item in found), decisions=found)


@router.get("/v1/builtin-policies", needs="reader", summary="List built-in policies")
def list_builtin_policies(request: Request) -> list[Name]:  # noqa: ARG001 - a route with a role takes its request
    """The names of the policies that come with auditsvc; use them as they are, or copy them."""
    return [path.stem for path in sorted((resource_dir("policies") / "gates").glob("*.yaml"))]


@router.get(
    "/v1/builtin-policies/{name}",
    needs="reader",
    sends={"application/yaml": {"schema": {"type": "object"}}},
    summary="Get one built-in policy",
)
def get_builtin_policy(
    request: Request,  # noqa: ARG001 - as above
    name: Annotated[Name, Path(description="A name of the list.")],
) -> Response:
    """The YAML file, with the reason for every limit."""
    for path in (resource_dir("policies") / "gates").glob("*.yaml"):
        if path.stem == name:
            return Response(path.read_bytes(), media_type="application/yaml")
    raise NotFound(f"no built-in policy {name}")
