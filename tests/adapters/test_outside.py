"""Witnesses and time stamps over HTTP, each played by a server on this machine."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from auditsvc.adapters.signing_services import HttpTimestamps, HttpWitnesses
from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.provenance import SigningServices, TrustRoot, sign_release, verify
from auditsvc.provenance.formats.dsse import Bundle
from auditsvc.provenance.formats.signed_note import count_witnesses
from auditsvc.provenance.verifier.verification_context import check_timestamp
from tests.fakes.log import MemoryLog
from tests.provenance.authority import Authority
from tests.provenance.sample import AT, FILES, house, sealing, write
from tests.provenance.test_log_service import House

Answer = Callable[[bytes], tuple[int, bytes]]


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, body = answer(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def answering(one: House) -> Answer:
    def answer(request: bytes) -> tuple[int, bytes]:
        status, body = one.witness.answer(request, AT)
        return status, body.encode()

    return answer


def test_a_witness_that_knows_the_log_is_asked_again_from_where_it_was(tmp_path: Path) -> None:
    one = House(tmp_path, 20)
    with serving(answering(one)) as address:
        witnesses = HttpWitnesses(((one.witness.key.vkey, address),), 1, one.log)
        for size in (5, 5, 12, 20):
            assert count_witnesses(witnesses.cosign(one.note(size)), witnesses.vkeys) == 1
    assert one.witness.seen(one.origin).size == 20


def test_without_its_quorum_nothing_is_published(tmp_path: Path) -> None:
    one, other = House(tmp_path / "a", 20), House(tmp_path / "b", 20)
    with serving(answering(one)) as address:
        gone = (other.witness.key.vkey, "http://127.0.0.1:1")
        both = HttpWitnesses(((one.witness.key.vkey, address), gone), 2, one.log)
        with pytest.raises(Unavailable, match="1 of 2 witnesses"):
            both.cosign(one.note(20))
        assert count_witnesses(replace(both, quorum=1).cosign(one.note(20)), both.vkeys) == 1


def test_a_witness_that_saw_another_history_or_signs_with_another_key_does_not_count(tmp_path: Path) -> None:
    one, other = House(tmp_path / "a", 20), House(tmp_path / "b", 20)
    with serving(answering(one)) as address:
        HttpWitnesses(((one.witness.key.vkey, address),), 1, one.log).cosign(one.note(12))
        wrong = HttpWitnesses(((other.witness.key.vkey, address),), 1, one.log)
        with pytest.raises(Unavailable, match="not a cosignature"):
            wrong.cosign(one.note(20))
        one.log = MemoryLog([b"other %d" % index for index in range(20)])
        with pytest.raises(Unavailable, match="0 of 1 witnesses"):
            HttpWitnesses(((one.witness.key.vkey, address),), 1, one.log).cosign(one.note(20))


def test_a_witness_answers_as_the_protocol_says(tmp_path: Path) -> None:
    one, stranger = House(tmp_path / "a", 20), House(tmp_path / "b", 20)
    assert one.witness.answer(b"rubbish", AT)[0] == 400
    assert one.witness.answer(stranger.request(0, 5), AT)[0] == 404
    assert one.witness.answer(one.request(0, 5).replace(b"\n5\n", b"\n6\n"), AT)[0] == 403
    assert one.witness.answer(one.request(0, 12), AT)[0] == 200
    assert one.witness.answer(one.request(5, 20), AT) == (409, "12\n")
    assert one.witness.answer(one.request(5, 20).replace(b"old 5", b"old 12"), AT)[0] == 422


def test_a_file_of_witnesses_is_read_with_every_fault(tmp_path: Path) -> None:
    one = House(tmp_path, 3)
    (tmp_path / "good").write_text(f"# ours\nquorum 1\n{one.witness.key.vkey} https://w.example/\n")
    found = HttpWitnesses.in_file(tmp_path / "good", one.log)
    assert (found.addresses, found.quorum) == (((one.witness.key.vkey, "https://w.example"),), 1)
    (tmp_path / "bad").write_text("quorum 3\nno+key https://w.example\nftp://x\n")
    with pytest.raises(InvalidInput) as raised:
        HttpWitnesses.in_file(tmp_path / "bad", one.log)
    assert len(raised.value.reasons) == 4


needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="the authority is openssl's")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    pytest.importorskip("rfc3161_client")
    return Authority(tmp_path / "tsa")


@needs_openssl
def test_signatures_are_stamped_while_sealing_and_readers_may_ask_for_it(authority: Authority, tmp_path: Path) -> None:
    write(tmp_path / "release", FILES)
    keys, log = house(tmp_path)
    with serving(lambda query: (200, authority.reply(query))) as address:
        stamps = HttpTimestamps(address, authority.chain)
        trust = TrustRoot.of_keys(keys).with_witnesses((), 0, (stamps.authority,))
        sign_release(
            tmp_path,
            sealing(),
            keys=keys,
            log=log,
            at=AT,
            services=SigningServices(stamp=stamps.stamp, trust=trust),
        )
    for path in (tmp_path / "attest").glob("*.sigstore.json"):
        assert check_timestamp(Bundle.parse(path.read_bytes()), trust.timestamp_authorities)
    asking = trust.model_copy(update={"require": trust.require.model_copy(update={"timestamp": True})})
    found = verify(tmp_path / "release", tmp_path / "attest", trust=asking, at=AT)
    assert (found.verdict, found.reasons) == ("VALID", ())


@needs_openssl
def test_an_authority_that_is_down_refuses_or_is_another_stops_the_seal(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    with pytest.raises(Unavailable, match="does not answer"):
        HttpTimestamps("http://127.0.0.1:1", authority.chain).stamp(b"x")
    with serving(lambda _: (500, b"")) as address, pytest.raises(Unavailable, match="does not answer"):
        HttpTimestamps(address, authority.chain).stamp(b"x")
    with serving(lambda _: (200, b"rubbish")) as address, pytest.raises(Unavailable, match="no timestamp"):
        HttpTimestamps(address, authority.chain).stamp(b"x")
    with serving(lambda query: (200, other.reply(query))) as address, pytest.raises(Unavailable, match="no timestamp"):
        HttpTimestamps(address, authority.chain).stamp(b"x")
    with pytest.raises(InvalidInput, match="starts with http"):
        HttpTimestamps.at("file:///etc/passwd", tmp_path / "tsa" / "tsa.pem")
