"""Candidates, their parents, submissions, evidence and failed checks."""

from __future__ import annotations

from auditsvc.records import Candidate, CheckFailed, Evidence, Parent, Submission
from auditsvc.web.auth.authentication import Router
from auditsvc.web.record_routes import record_router

router = Router(tags=["candidates"])

record_router(
    router,
    Candidate,
    "candidates",
    about="A model's name, or the digest of a parent or of one of the candidate's files.",
)
record_router(router, Parent, "parents", about="A model's name.")
record_router(router, Submission, "submissions", about="A candidate's digest, or `model/version`.")
record_router(router, Evidence, "evidence", about="A candidate's digest.")
record_router(router, CheckFailed, "failed_checks", about="A candidate's digest.")
