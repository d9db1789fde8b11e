"""Third parties that sign over HTTP: witnesses of the transparency log, and a timestamp authority (RFC 3161).

Witnesses cosign each checkpoint if the log only grew since they last saw it.  The setting names a file with one witness
per line (key and address) and the number of witnesses that must sign::

    quorum 1
    witness.example/w1+7f1c...+BAbq...  https://witness.example

A timestamp proves that a signature existed at a given time; every response is verified against the authority's
certificates before it is used.

References: C2SP (2024), "tlog-witness", https://c2sp.org/tlog-witness; C. Adams, P. Cain, D. Pinkas, R. Zuccherato
(2001), "Time-Stamp Protocol", RFC 3161.
"""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.ports import Log
from auditsvc.provenance.formats.dsse import time_of
from auditsvc.provenance.formats.signed_note import Checkpoint, Note, NoteKey, count_witnesses
from auditsvc.provenance.formats.strict_json import Fault
from auditsvc.provenance.signer.checkpoints import witness_request

WITNESS_TIMEOUT_S = 10
_MOST = 64 * 1024
"""Bytes of a response that are read."""


@dataclass(frozen=True)
class HttpWitnesses:
    """``ports.Witnesses``: keys with addresses, and how many must answer."""

    addresses: tuple[tuple[str, str], ...]
    quorum: int
    log: Log

    @property
    def vkeys(self) -> tuple[str, ...]:
        """Their keys."""
        return tuple(vkey for vkey, _ in self.addresses)

    @classmethod
    def in_file(cls, path: Path, log: Log) -> HttpWitnesses:
        """The witnesses that a file names.

        Raises:
            InvalidInput: it can't be read, with every fault; or the quorum is larger than the number of witnesses.
        """
        try:
            lines = path.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"the witnesses {path} can't be read: {error}") from error
        addresses, quorum, reasons = [], 1, []
        for number, line in enumerate(lines, start=1):
            words = line.partition("#")[0].split()
            if len(words) == 2 and words[0] == "quorum" and words[1].isdecimal():
                quorum = int(words[1])
            elif len(words) == 2 and words[1].startswith(("http://", "https://")) and _is_key(words[0]):
                addresses.append((words[0], words[1].rstrip("/")))
            elif words:
                reasons.append(f"line {number}: neither a quorum nor a key with an address")
        reasons += ["no witness is named"] * (not addresses)
        reasons += [f"a quorum of {quorum} among {len(addresses)} witnesses"] * (quorum > len(addresses))
        if reasons:
            raise InvalidInput(f"the witnesses {path} can't be used", reasons)
        return cls(tuple(addresses), quorum, log)

    def cosign(self, envelope: str) -> str:
        """The checkpoint with the lines of all who answered under it.

        Raises:
            Unavailable: fewer than the quorum signed; says what each of the others answered.
        """
        failures = []
        for vkey, address in self.addresses:
            try:
                line = self._line(address, envelope)
                if count_witnesses(envelope + line, (vkey,)) != 1:
                    raise Fault("WITNESS", "its line is not a cosignature of this checkpoint by its key")
            except (Fault, urllib.error.URLError, OSError) as error:
                failures.append(f"{address}: {error}")
            else:
                envelope += line
        signed = len(self.addresses) - len(failures)
        if signed < self.quorum:
            raise Unavailable(f"{signed} of {self.quorum} witnesses signed the checkpoint; {'; '.join(failures)}")
        return envelope

    def _line(self, address: str, envelope: str) -> str:
        """Ask one witness; if it last saw another size, it answers with that size, and is asked again from there."""
        size = Checkpoint.parse(Note.parse(envelope).text).size
        answer = _asked(address, witness_request(0, (), envelope))
        if isinstance(answer, int):
            proof = self.log.consistency(answer, size) if 0 < answer <= size else ()
            answer = _asked(address, witness_request(answer, proof, envelope))
        if isinstance(answer, int):
            raise Fault("WITNESS", f"it saw {answer} entries last, and the log has {size}")
        return answer


def _asked(address: str, request: bytes) -> str | int:
    """The witness's line, or the size that it saw last."""
    asked = urllib.request.Request(f"{address}/add-checkpoint", request)  # noqa: S310 - http only, see ``in_file``
    try:
        with urllib.request.urlopen(asked, timeout=WITNESS_TIMEOUT_S) as answer:  # noqa: S310
            return str(answer.read(_MOST).decode("utf-8", "replace"))
    except urllib.error.HTTPError as error:
        body = error.read(_MOST).decode("utf-8", "replace")
        if error.code == 409 and re.fullmatch(r"[0-9]{1,16}\n", body):
            return int(body)
        raise Fault("WITNESS", f"HTTP {error.code} {body[:200].strip()}") from error


def _is_key(text: str) -> bool:
    try:
        NoteKey.parse(text)
    except Fault:
        return False
    return True


TIMESTAMP_TIMEOUT_S = 20


@dataclass(frozen=True)
class HttpTimestamps:
    """``ports.Timestamps``: an authority by its address; ``authority`` are its certificates in PEM, root last."""

    url: str
    authority: str

    @classmethod
    def at(cls, url: str, certificates: Path) -> HttpTimestamps:
        """The authority at this address, with the certificates in this file.

        Raises:
            InvalidInput: not an HTTP address, or a file that can't be read.
        """
        if not url.startswith(("http://", "https://")):
            raise InvalidInput(f"a time stamping authority has an address that starts with http, not {url!r}")
        try:
            return cls(url, certificates.read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"the authority's certificates {certificates} can't be read: {error}") from error

    def stamp(self, data: bytes) -> bytes:
        """The authority's response over these bytes, checked.

        Raises:
            Unavailable: it can't be reached, refuses, or answers with something else.
        """
        try:
            from rfc3161_client import HashAlgorithm, TimestampRequestBuilder
        except ImportError as error:
            raise Unavailable("time stamps need rfc3161-client: pip install 'auditsvc[timestamp]'") from error
        query = (
            TimestampRequestBuilder().data(data).hash_algorithm(HashAlgorithm.SHA256).cert_request(cert_request=True)
        )
        request = urllib.request.Request(  # noqa: S310 - http only, see ``at``
            self.url, query.build().as_bytes(), {"content-type": "application/timestamp-query"}
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMESTAMP_TIMEOUT_S) as answer:  # noqa: S310
                token: bytes = answer.read(_MOST)
        except (urllib.error.URLError, OSError) as error:
            raise Unavailable(f"the time stamping authority {self.url} does not answer: {error}") from error
        try:
            time_of((token,), data, (self.authority,))
        except Fault as fault:
            raise Unavailable(f"the time stamping authority {self.url}: {fault.detail}") from fault
        return token
