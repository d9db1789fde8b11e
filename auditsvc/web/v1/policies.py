"""Policies: those in use, the built-in ones, and a backtest of another policy on past decisions."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from auditsvc.errors import NotFound
from auditsvc.records import Digest, Name, Policy
from auditsvc.resources import resource_dir
from auditsvc.services.policies import BacktestRow, backtest
from auditsvc.web.auth.authentication import Router, site_of
from auditsvc.web.record_routes import record_router

router = Router(tags=["policies"])

record_router(router, Policy, "/v1/policies", names=("policy", "policies"), about="A policy's name, or `name/version`.")


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
    response_class=Response,
    responses={200: {"content": {"application/yaml": {"schema": {"type": "object"}}}}},
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
