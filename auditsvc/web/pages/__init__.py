"""The web pages: releases, candidates, decisions, policies, reports, statements, jobs, log and verification.

They are rendered on the server, without a build step and without files from other hosts. A page reads what the API
reads, and its buttons call the same service functions under the same roles.
"""

from auditsvc.web.auth import login
from auditsvc.web.pages import (
    administration,
    candidate,
    decision,
    jobs,
    monitoring,
    overview,
    policies,
    statements,
    terms,
)

routers = (
    overview.router,
    candidate.router,
    decision.router,
    monitoring.router,
    login.router,
    jobs.router,
    administration.router,
    policies.router,
    terms.router,
    statements.router,
)

__all__ = ["routers"]
