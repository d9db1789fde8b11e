"""Policies: those under which something was decided, those that are shipped, and what another would have said."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from auditsvc.errors import NotFound
from auditsvc.records import Digest, Name, Policy
from auditsvc.resources import resource_dir
from auditsvc.services.policy_backtest import BacktestRow, backtest
from auditsvc.web.authentication import site_of
from auditsvc.web.record_routes import record_router
from auditsvc.web.role_routes import RoleRoute

router = APIRouter(route_class=RoleRoute, tags=["policies"])

record_router(
    router, Policy, "/v1/policies", many="Policies in use", about="of", means="A policy's name, or `name/version`."
)


class Trying(BaseModel):
    """A policy as YAML, and the model whose past is looked at; all models if none is named."""

    policy: Annotated[str, Field(min_length=1, max_length=40_000, description="The text of a policy file.")]
    model: Name | None = None


class Tried(BaseModel):
    """What this policy would have decided on every candidate that was judged, and how many would turn."""

    policy: Digest
    turned: int
    replayed: list[BacktestRow]


@router.post("/v1/policies/dry-run", summary="What would another policy have said?")
def dry_run(request: Request, given: Trying) -> Tried:
    """Every candidate that was judged, judged again on the evidence that is there.  Nothing is measured or stored.

    A policy with faults is refused with every fault and its line.
    """
    from auditsvc.services.policies import parse_policy

    policy = parse_policy(given.policy, "policy")
    found = list(backtest(policy, site_of(request).ledger, given.model))
    return Tried(policy=policy.digest, turned=sum(item.turned for item in found), replayed=found)


@router.get("/v1/shipped-policies", summary="Shipped policies, by name")
def shipped_policies(request: Request) -> list[Name]:  # noqa: ARG001 - every route of a role takes its request
    """Policies that come with auditsvc, to be used as they are or copied."""
    return [path.stem for path in sorted((resource_dir("policies") / "gates").glob("*.yaml"))]


@router.get(
    "/v1/shipped-policies/{name}",
    response_class=Response,
    responses={200: {"content": {"application/yaml": {"schema": {"type": "object"}}}}},
    summary="One shipped policy",
)
def shipped_policy(
    request: Request,  # noqa: ARG001 - as above
    name: Annotated[Name, Path(description="As in the list.")],
) -> Response:
    """The file, with the reason for every number."""
    for path in (resource_dir("policies") / "gates").glob("*.yaml"):
        if path.stem == name:
            return Response(path.read_bytes(), media_type="application/yaml")
    raise NotFound(f"no shipped policy {name}")
