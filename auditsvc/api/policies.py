"""Policies: every one under which something was decided."""

from __future__ import annotations

from fastapi import APIRouter

from auditsvc.api.reading import readable
from auditsvc.api.roles import RoleRoute
from auditsvc.records import Policy

router = APIRouter(route_class=RoleRoute, tags=["policies"])

readable(
    router, Policy, "/v1/policies", many="Policies in use", about="of", means="A policy's name, or `name/version`."
)
