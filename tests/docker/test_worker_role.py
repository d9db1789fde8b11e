"""The database role for workers records what was measured, and nothing that people decide or the signer signs."""

from __future__ import annotations

import datetime
import re
import subprocess
from pathlib import Path

import pytest
from sqlalchemy import make_url

import auditsvc
from auditsvc.adapters.jobs.job_store import DbosJobs, JobDatabase
from auditsvc.adapters.ledger import SqlLedger
from auditsvc.adapters.observations import SqlObservations
from auditsvc.errors import Unavailable
from auditsvc.records import Approval, ReleaseRequest
from auditsvc.web.auth.token_store import TokenStore
from tests.adapters.postgres import _tool, new_database
from tests.contracts.sample import one_of_each
from tests.fakes import NOON, FixedClock
from tests.gate.sample import a_loss, an_evidence, losses

pytestmark = pytest.mark.postgres
SCRIPT = Path(auditsvc.__file__).parents[1] / "docker" / "worker-role.sql"
BY_PEOPLE = {
    "approval", "objection", "waiver", "terms-proposal", "terms", "release", "revocation-request", "revocation",
    "rollback-request", "rollback", "retirement", "device", "answers", "document", "change-plan", "change-verdict",
    "incident", "incident-watch", "watch-proposal", "watch", "alarm-mute", "data-card", "consent",
}  # fmt: skip


def test_the_script_names_what_people_decide() -> None:
    found = set(re.findall(r"'([a-z-]+)'", SCRIPT.read_text().partition("NOT IN")[2].partition(")")[0]))
    assert found == BY_PEOPLE


def test_a_worker_s_role_can_not_decide() -> None:
    url = new_database()
    owner, jobs = SqlLedger(url, FixedClock()), JobDatabase(url)
    TokenStore(url, FixedClock())
    SqlObservations(url).close()
    address = make_url(url)
    for _ in range(2):  # also after an upgrade
        place = ["-h", "127.0.0.1", "-p", str(address.port), "-U", str(address.username), str(address.database)]
        options = ["-q", "-v", "ON_ERROR_STOP=1", "-v", "password=x", "-f", str(SCRIPT)]
        subprocess.run([_tool("psql"), *options, *place], check=True)
    role = address.set(username="auditsvc_worker").render_as_string()
    worker = SqlLedger(role, FixedClock())
    refused = set()
    for record in (*one_of_each(), an_evidence(losses(overall=a_loss(0.0)))):
        try:
            worker.append(record, actor="ann")
        except Unavailable as error:
            assert "permission denied" in str(error) or "row-level security" in str(error)
            refused.add(record.kind)
            owner.append(record, actor="ann")  # later ones rest on it
    tried = {record.kind for record in one_of_each()}
    assert refused == tried & BY_PEOPLE
    assert {"approval", "waiver", "terms", "revocation"} <= refused
    assert worker.faults() == owner.faults() == ()
    with pytest.raises(Unavailable, match="permission denied"):
        TokenStore(role, FixedClock()).tokens()
    queue = DbosJobs(JobDatabase(role))
    asked = queue.submit(ReleaseRequest(decision="sha256:" + "0" * 64), "ann")
    assert queue.get(asked.id).state == "queued"
    assert not worker.find(Approval, "sha256:" + "0" * 64)
    observed, release = SqlObservations(role), "sha256:" + "0" * 64
    rows = [(name, NOON, "", "{}") for name in ("one", "two")]
    assert [observed.add(release, rows), observed.add(release, rows)] == [2, 0]
    assert [observed.add_labels(release, {"one": "cat"}), observed.add_labels(release, {"one": "dog"})] == [1, 0]
    observed.keep_state(release, 1, 0, b"state")
    assert observed.delete_before(release, NOON + datetime.timedelta(days=1)) == 2
    for one in (owner, worker, jobs, observed):
        one.close()
