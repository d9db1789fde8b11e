"""Frameworks: what reports are held against, as data."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel

from auditsvc.compliance import Framework, load_frameworks
from auditsvc.errors import NotFound
from auditsvc.records import Name
from auditsvc.resources import resource_dir
from auditsvc.web.role_routes import RoleRoute

router = APIRouter(route_class=RoleRoute, tags=["policies"])


class About(BaseModel):
    """A framework without its requirements."""

    framework: Name
    name: str
    version: str
    standing: str
    requirements: int


@router.get("/v1/frameworks", summary="Frameworks")
def frameworks(request: Request) -> list[About]:  # noqa: ARG001 - every route of a role takes its request
    """Every framework that reports are held against, and on which day somebody compared it with its source."""
    return [
        About(
            framework=one.framework,
            name=one.name,
            version=one.version,
            standing=one.standing,
            requirements=len(one.requirements),
        )
        for one in load_frameworks(resource_dir("policies"))
    ]


@router.get("/v1/frameworks/{framework}", summary="One framework")
def framework(
    request: Request,  # noqa: ARG001 - as above
    framework: Annotated[Name, Path(description="As in `framework` of the list.")],
) -> Framework:
    """All its requirements: what each rests on, and from when it applies."""
    for one in load_frameworks(resource_dir("policies")):
        if one.framework == framework:
            return one
    raise NotFound(f"no framework {framework}")
