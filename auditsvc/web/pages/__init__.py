"""The pages: what waits for whom, a candidate beside its parent, a decision with its rules, the log, verifying.

Server-rendered, no build step, nothing from other hosts.  A page reads what the API reads, and its buttons end in the
same verbs under the same roles.
"""

from auditsvc.web.auth import login
from auditsvc.web.pages import (
    activity,
    candidate_page,
    decision_page,
    guide,
    incident_pages,
    overview,
    policy_pages,
    report_pages,
    statement_pages,
)

routers = (
    overview.router,
    candidate_page.router,
    decision_page.router,
    activity.router,
    login.router,
    policy_pages.router,
    report_pages.router,
    statement_pages.router,
    incident_pages.router,
    guide.router,
)

__all__ = ["routers"]
