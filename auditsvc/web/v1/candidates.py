"""Candidates, their parents, who submitted them, and what was measured of them."""

from __future__ import annotations

from fastapi import APIRouter

from auditsvc.records import Candidate, CheckFailed, Evidence, Parent, Submission
from auditsvc.web.record_routes import record_router
from auditsvc.web.role_routes import RoleRoute

router = APIRouter(route_class=RoleRoute, tags=["candidates"])

record_router(
    router,
    Candidate,
    "/v1/candidates",
    many="Candidates",
    about="of",
    means="A model's name, or the digest of a parent or of one of the candidate's files.",
)
record_router(router, Parent, "/v1/parents", many="Parents", about="of", means="A model's name.")
record_router(
    router,
    Submission,
    "/v1/submissions",
    many="Submissions: who asked for which release",
    about="of",
    means="A candidate's digest, or `model/version`.",
)
record_router(
    router, Evidence, "/v1/audits", many="Audits: evidence, one check each", about="of", means="A candidate's digest."
)
record_router(
    router, CheckFailed, "/v1/failed-checks", many="Checks that crashed", about="of", means="A candidate's digest."
)
