"""The compliance frameworks that reports map evidence to."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Request
from pydantic import BaseModel

from auditsvc.compliance import Framework, load_frameworks
from auditsvc.errors import NotFound
from auditsvc.records import Name
from auditsvc.resources import resource_dir
from auditsvc.web.auth.authentication import Router

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
