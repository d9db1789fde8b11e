"""Published trust from a folder or an address, never older than what was seen."""

from __future__ import annotations

import datetime
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.provenance.trust.tuf_client import fetch_trust
from tests.provenance.cases_trust import published
from tests.provenance.forge import Forge
from tests.provenance.sample import AT


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    return Forge(tmp_path)


@pytest.fixture
def address(forge: Forge) -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(forge.folder)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_trust_from_an_address_is_trust_from_a_folder(forge: Forge, address: str) -> None:
    folder, pinned = published(forge), forge.keys.signer("release").public_pem
    there = f"{address}/{folder.relative_to(forge.folder).as_posix()}"
    found = fetch_trust(there, pinned, AT, forge.folder / "memory")
    assert found == fetch_trust(str(folder), pinned, AT, forge.folder / "other")
    assert forge.verify(found).verdict == "VALID"


def test_nobody_goes_back_behind_what_was_seen(forge: Forge) -> None:
    pinned, memory = forge.keys.signer("release").public_pem, forge.folder / "memory"
    shutil.copytree(published(forge), forge.folder / "old")
    folder = published(forge)
    assert forge.verify(fetch_trust(str(folder), pinned, AT, memory)).verdict == "VALID"
    again = forge.verify(fetch_trust(str(forge.folder / "old"), pinned, AT, memory))
    assert again.verdict == "UNKNOWN"
    assert {step.code for step in again.reasons} == {"TRUST_ROLLBACK"}
    fresh = forge.verify(fetch_trust(str(forge.folder / "old"), pinned, AT, forge.folder / "of-somebody-else"))
    assert fresh.verdict == "VALID"


def test_stale_or_missing_trust_is_unknown_and_never_valid(forge: Forge, address: str) -> None:
    folder, pinned = published(forge), forge.keys.signer("release").public_pem
    late = AT + datetime.timedelta(days=2)
    assert forge.verify(fetch_trust(str(folder), pinned, late, forge.folder / "m")).verdict == "UNKNOWN"
    nothing = fetch_trust(f"{address}/nothing", pinned, AT, forge.folder / "m")
    assert forge.verify(nothing).verdict == "UNKNOWN"
    with pytest.raises(Unavailable, match="can't be reached"):
        fetch_trust("http://127.0.0.1:1/trust", pinned, AT, forge.folder / "m")
    with pytest.raises(InvalidInput, match="not a folder"):
        fetch_trust(str(forge.folder / "none"), pinned, AT, forge.folder / "m")


def test_a_memory_that_was_tampered_with_is_an_error(forge: Forge) -> None:
    folder, pinned, memory = published(forge), forge.keys.signer("release").public_pem, forge.folder / "memory"
    fetch_trust(str(folder), pinned, AT, memory)
    for path in memory.iterdir():
        path.write_text("{}]")
    with pytest.raises(InvalidInput, match="not a list of metadata versions"):
        fetch_trust(str(folder), pinned, AT, memory)
