"""Candidates, their parents, submissions, evidence and failed checks."""

from __future__ import annotations

from auditsvc.records import Candidate, CheckFailed, Evidence, Parent, Submission
from auditsvc.web.auth.authentication import Router
from auditsvc.web.record_routes import record_router

router = Router(tags=["candidates"])

record_router(
    router,
    Candidate,
    "/v1/candidates",
    names=("candidate", "candidates"),
    about="A model's name, or the digest of a parent or of one of the candidate's files.",
)
record_router(router, Parent, "/v1/parents", names=("parent", "parents"), about="A model's name.")
record_router(
    router,
    Submission,
    "/v1/submissions",
    names=("submission", "submissions"),
    about="A candidate's digest, or `model/version`.",
)
record_router(router, Evidence, "/v1/evidence", names=("evidence", "evidence"), about="A candidate's digest.")
record_router(
    router, CheckFailed, "/v1/failed-checks", names=("failed_check", "failed_checks"), about="A candidate's digest."
)
