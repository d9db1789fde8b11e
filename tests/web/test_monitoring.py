"""Watching a release over HTTP: two people set it, devices send observations, people mute alarms."""

from __future__ import annotations

import dataclasses
import json

import pytest

from auditsvc.adapters.observations import SqlObservations
from auditsvc.records import DriftAlarm, Monitoring, Observed, StreamReading
from tests.fakes import NOON
from tests.services.line import CARD as ARCHITECTURE
from tests.web import sample

RELEASE = sample.released()
URL = f"/v1/releases/{RELEASE.digest}/watch"
DRAFT = {"data": "audited", "slices": ["device"], "reason": "the plan"}


@pytest.fixture
def watched(clients, site, tmp_path):
    """The release is watched: proposed by one approver, confirmed by another."""
    store = SqlObservations(f"sqlite:///{tmp_path}/observations.db")
    site.ctx = dataclasses.replace(site.ctx, watched=store)
    one, other = clients("approver", name="ann"), clients("approver", name="bob")
    proposal = one.post(URL, json=DRAFT)
    assert proposal.status_code == 201, proposal.text
    digest = one.get(URL).json()["proposal"]
    assert one.post(f"/v1/watch-proposals/{digest}/confirmations").status_code in (403, 409)
    assert other.post(f"/v1/watch-proposals/{digest}/confirmations").status_code == 201
    yield one.get(URL).json()
    store.close()


def test_settings_are_shown_and_paths_out_of_the_data_folder_are_refused(clients, watched):
    assert watched["settings"]["confirmed_by"] == "bob" and watched["alarms"] == []
    for bad in ({"data": "/etc"}, {"source": "../x"}, {"alpha": 0.9}):
        assert clients("approver", name="ann").post(URL, json=DRAFT | bad).status_code == 422
    assert "Settings" in clients("reader").get(f"/releases/{RELEASE.digest}/monitoring").text


def test_an_alarm_is_shown_with_its_deadlines_and_muted_by_a_person(clients, site, watched):
    reading = StreamReading(stream="brightness", images=9, mean=0.2, audited=0.5, log10_e=4.0, limit=2.5)
    seen = Observed(settings=watched["digest"], reference=RELEASE.digest, position=9, labels=0, images=9, left_out=0,
                    streams=(reading,))  # fmt: skip
    run = Monitoring(model="net", version="1", release=RELEASE.digest, candidate=RELEASE.candidate, files="VALID",
                     gate="approved", outcome="changed", observed=seen, person="auditsvc", at=NOON)  # fmt: skip
    alarm = DriftAlarm(release=RELEASE.digest, model="net", version="1", candidate=RELEASE.candidate, images=9,
                       settings=watched["digest"], stream="brightness", words="brightness changed",
                       at=NOON)  # fmt: skip
    site.ledger.append(run, alarm, actor="auditsvc")
    shown = clients("reader").get(URL).json()["alarms"]
    assert shown[0]["digest"] == alarm.digest and "death" in shown[0]["report_due"]
    text = clients("reader").get(f"/releases/{RELEASE.digest}/monitoring").text
    assert "brightness changed" in text and "<polyline" in text and "2.5" in text
    until = NOON.replace(day=NOON.day + 1).isoformat()
    mute = {"reason": "a known lamp", "until": until}
    assert clients("approver", name="ann").post(f"/v1/drift-alarms/{alarm.digest}/mutes", json=mute).status_code == 201
    assert clients("reader").get(URL).json()["alarms"] == []
    site.metrics.watched("main", site.ledger, NOON)
    assert "auditsvc_watched_images" in clients("reader").get("/metrics").text


def test_a_batch_is_kept_once_and_refused_as_a_whole(clients, site, watched, monkeypatch):
    monkeypatch.setattr("auditsvc.services.observations.classes_of", lambda *_: ARCHITECTURE.classes)
    device = clients("submitter", name="fleet")
    rows = [{"id": str(n), "at": NOON.isoformat(), "scores": [0.4, 0.6]} for n in range(20)]
    url = f"/v1/observations?release={RELEASE.digest}"
    assert device.post(url, content=json.dumps(rows)).json()["added"] == 20
    assert device.post(url, content=json.dumps(rows)).json() == {
        "added": 0,
        "repeated": 20,
        "labelled": 0,
        "audited": [],
    }
    bad = device.post(url, content=json.dumps([rows[0] | {"id": "new"}, rows[1] | {"scores": [2, 3]}]))
    assert bad.status_code == 422 and bad.json()["code"] == "invalid-input"
    assert site.ctx.watched.known(RELEASE.digest, ["new"]) == frozenset()
    labels = f"/v1/observation-labels?release={RELEASE.digest}"
    assert device.post(labels, content=json.dumps({"1": "dark", "99": "dark"})).json() == {"labelled": 1}
    assert clients("reader").post(url, content="[]").status_code == 403
