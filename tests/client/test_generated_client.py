"""The OpenAPI document is good enough for a public client generator: openapi-python-client makes a client of it that
asks the gate."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from auditsvc.web import create_app
from auditsvc.web.state import ProjectState
from tests.client.test_client import clock, remembered, site, url

__all__ = ["clock", "remembered", "site", "url"]

GENERATE = ["generate", "--path", "openapi.json", "--meta", "none", "--output-path", "generated"]
ASK = """
import importlib, sys
from generated.client import Client
operation = importlib.import_module(sys.argv[2])
client = Client(base_url=sys.argv[1])
for version in ("1", "2", "3"):
    answer = operation.sync(client=client, model="net", version=version)
    print(type(answer).__name__, getattr(answer.answer, "value", answer.answer))
"""


@pytest.mark.slow
def test_a_generated_client_asks_the_gate(url: str, site: ProjectState, tmp_path: Path) -> None:
    pytest.importorskip("openapi_python_client", reason="pip install openapi-python-client")
    (tmp_path / "openapi.json").write_text(json.dumps(create_app(site).openapi()))
    made = subprocess.run(
        [sys.executable, "-m", "openapi_python_client", *GENERATE],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    assert made.returncode == 0, made.stdout + made.stderr
    assert not re.search(r"unable to parse|unable to process|duplicate", made.stdout, re.IGNORECASE), made.stdout
    (operation,) = (
        path for path in (tmp_path / "generated" / "api").rglob("*.py") if re.search(r'"/v1/gate"', path.read_text())
    )
    module = ".".join(operation.relative_to(tmp_path).with_suffix("").parts)
    done = subprocess.run([sys.executable, "-c", ASK, url, module], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answers = [line.split() for line in done.stdout.splitlines()]
    assert answers == [["GateAnswer", "approved"], ["GateAnswer", "inconclusive"], ["GateAnswer", "rejected"]]
