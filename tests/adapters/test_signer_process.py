"""The signer signs what the ledger shows; a worker has no key, whatever it tries."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest

from auditsvc.adapters import signer_process
from auditsvc.adapters.signer_process import SignerKeys, SocketSigning, serve_requests
from auditsvc.errors import Forbidden, NotApproved, Unavailable
from tests.adapters import signer_attacks


def answers(project: str, request: str, subject: str) -> str:
    if request == "release":
        raise NotApproved(f"{subject} of {project} is rejected")
    return json.dumps({"release": "a public key"}) if request == "keys" else request


@pytest.fixture(params=["path", "inherited"])
def signing(request, tmp_path, monkeypatch):
    """A signer in a thread, at a path and at a socket that was passed on."""
    monkeypatch.setattr(signer_process.ctypes, "CDLL", lambda _: type("Libc", (), {"prctl": lambda *_: 0})())
    if request.param == "path":
        place = ours = str(tmp_path / "socket")
    else:
        pair = [one.detach() for one in socket.socketpair()]
        place, ours = (f"fd:{one}" for one in pair)
    threading.Thread(target=serve_requests, args=(place, answers), daemon=True).start()
    while request.param == "path" and not Path(place).exists():
        pass
    made = SocketSigning(ours, "plates")
    yield made
    if request.param == "inherited":
        signer_process._inherited.pop(pair[1]).close()


def test_an_answer_and_an_error_cross_the_socket_as_they_are(signing):
    assert signing.ask("checkpoint") == "checkpoint"
    with pytest.raises(NotApproved, match="sha256:1 of plates is rejected"):
        signing.ask("release", "sha256:1")
    assert signing.ask("checkpoint") == "checkpoint"


def test_keys_have_public_halves_only(signing):
    signer = SignerKeys(signing).signer("release")
    assert signer.public_pem == b"a public key"
    with pytest.raises(Forbidden, match="signer process"):
        signer.sign(b"bytes")


@pytest.mark.parametrize("line", [b"x\n", b"[]\n", b"{}\n", b"[" * 4000 + b"\n", b"1" * 5000 + b"\n", b"\xff\n"])
def test_a_line_that_is_no_request_is_refused(line):
    assert signer_process._answered(line, answers)["code"] == "invalid-input"


def test_without_a_signer_nothing_is_signed(tmp_path):
    with pytest.raises(Unavailable, match="auditsvc signer"):
        SocketSigning(str(tmp_path / "none")).ask("checkpoint")


def test_a_worker_that_was_taken_over_gets_no_signature_and_no_key(tmp_path):
    found = signer_attacks.run(tmp_path)
    if found.pop("hidden") is False:
        pytest.skip("the kernel gives no user namespaces here")
    assert found.pop("works") is True
    assert [name for name, reason in found.items() if not reason] == []
    assert "its records give rejected" in found["release of a forged decision"]
    assert "as a trial" in found["release of a decision under another policy"]
    assert not [*(tmp_path / "store" / "releases").glob("*/1*/attest*")], "nothing of a refused release was signed"
