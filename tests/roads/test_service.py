"""The guide's example for the client, as written there, and the same by HTTP alone, against a service with a worker."""

from __future__ import annotations

import re
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from auditsvc.bootstrap import open_worker
from auditsvc.client import Client
from auditsvc.records import AdmitRequest, ParentRequest
from auditsvc.services import job_handlers
from auditsvc.services.policies import resolve_policy
from auditsvc.settings import Settings
from auditsvc.web.app import create_app, open_site
from tests.roads import small
from tests.roads.conftest import QUICK
from tests.roads.test_roads import GUIDE, Networks

pytestmark = pytest.mark.slow


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """Its address and a token; the shipped policies are replaced by a quick one."""
    (tmp_path / "quick.yaml").write_text(QUICK)
    quick = resolve_policy(str(tmp_path / "quick.yaml"), None)  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job_handlers, "resolve_remote_policy", lambda _name, _ledger: quick)
    settings = Settings(store=tmp_path / "store")
    site = open_site(settings, "127.0.0.1")
    server = uvicorn.Server(uvicorn.Config(create_app(site), host="127.0.0.1", port=0, log_level="error"))
    worker = open_worker(settings, settings.project)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    worker.start()
    while not server.started:
        time.sleep(0.01)
    yield (
        f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}",
        site.access.issue("ann", "submitter", 1)[0],
    )
    worker.end(1)
    server.should_exit = True
    thread.join(10)
    site.close()


def test_a_model_goes_through_the_client_and_through_http(service: tuple[str, str], networks: Networks) -> None:
    small.parquet_table(Path("test.parquet"), small.pictures(60, 5))
    for network, name in zip(networks, ("dense.onnx", "small.onnx"), strict=True):
        small.save_onnx(network, Path(name))
    (example,) = re.findall(r"(?m)^ {4}def run.*\n(?: {8}.*\n)+\n {4}with Client.*\n(?: {8}.*\n)+", GUIDE.read_text())
    url, token = service
    scope: dict[str, Any] = {"url": url, "token": token, "Client": Client, "Path": Path, "ParentRequest": ParentRequest,
                             "AdmitRequest": AdmitRequest}  # fmt: skip
    exec(textwrap.dedent(example), scope)
    outcome = scope["result"]["outcome"]
    assert outcome in ("approved", "rejected", "inconclusive")

    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}) as http:

        def upload(name: str) -> list[dict[str, Any]]:
            got = http.post("/v1/uploads", params={"name": name}, content=Path(name).read_bytes(),
                            headers={"content-type": "application/octet-stream"})  # fmt: skip
            return got.raise_for_status().json()["files"]

        def job(kind: str, **fields: Any) -> dict[str, Any]:
            made = http.post(f"/v1/jobs/{kind}", json=fields).raise_for_status().json()
            while made["state"] not in ("done", "failed"):
                time.sleep(0.2)
                made = http.get(f"/v1/jobs/{made['id']}").json()
            assert made["state"] == "done", made
            return made["result"]

        (data,) = upload("test.parquet")
        prepared = {"preprocessing": {"mean": small.MEAN, "std": small.STD}}
        parent = job("parent", model="shirts", files=upload("dense.onnx"), probe=data["digest"], source="ours",
                     licence="MIT", describe=prepared)  # fmt: skip
        found = job("admit", parent=parent["parent"], files=upload("small.onnx"), probe=data["digest"],
                    policy="standard", data=data["digest"])  # fmt: skip
        assert (found["outcome"], found["candidate"]) == (outcome, scope["result"]["candidate"])
        gate = http.get("/v1/gate", params={"model": "shirts", "version": found["version"]}).json()
        assert gate["answer"] != "approved"  # a trial, without terms
        decision = http.get(f"/v1/decisions/{found['decision']}").raise_for_status().json()
        assert decision["candidate"] == found["candidate"]
