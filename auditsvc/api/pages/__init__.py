"""The pages: what waits for whom, a candidate beside its parent, a decision with its rules, the log, verifying.

Server-rendered, no build step, nothing from other hosts.  A page reads what the API reads, and its buttons end in the
same verbs under the same roles.
"""

from auditsvc.api.pages import (
    candidate,
    coming,
    decision,
    door,
    incidents,
    logbook,
    overview,
    policies,
    reports,
    saying,
    statements,
    taking_back,
    work,
)

routers = (
    overview.router,
    candidate.router,
    decision.router,
    taking_back.router,
    logbook.router,
    door.router,
    coming.router,
    policies.router,
    reports.router,
    statements.router,
    saying.router,
    incidents.router,
    work.router,
)

__all__ = ["routers"]
