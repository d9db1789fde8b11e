"""The signer: a process of its own that holds the keys, and its clients, which hold none.

Workers parse untrusted models and images.  A worker that such a file takes over can read its memory, its environment
and every file of its user, so it must find no key there.  The signer signs no bytes that a client sends: a request
names a decision, and the signer reads everything else from the ledger (``services.signing_requests``).

The address is the path of a Unix socket, or ``fd:N`` for a connected socket that a process inherited.  A request is one
line of JSON (``project``, ``request``, ``subject``), an answer another (``result``, or ``code`` and ``message``).

An installation without ``AUDITSVC_SIGNER`` needs no second command: ``continue_without_keys`` makes a worker start a
signer of its own and run again without secrets in its environment, where key folders are covered by an empty file
system in a mount namespace (Linux, mount_namespaces(7)).  Where the kernel allows no user namespaces, only another user
for the signer keeps the key files from workers.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import socket
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NoReturn

from auditsvc.errors import AuditError, Forbidden, InvalidInput, Unavailable, errors_by_code
from auditsvc.ports import KeyRole, SigningRequest

INHERITED = "fd:"
TIMEOUT_S = 600.0
"""How long a signature may take, in seconds: the files of a release are hashed before it."""
MAX_REQUEST, MAX_ANSWER = 2**12, 2**20
_PR_SET_DUMPABLE = 4
_NEW_NAMESPACES = 0x10000000 | 0x00020000  # CLONE_NEWUSER, CLONE_NEWNS
_BIND, _REC, _PRIVATE, _READ_ONLY = 0x1000, 0x4000, 0x40000, 0x1

_log = logging.getLogger("auditsvc.signer")
Answer = Callable[[str, str, str], str]
"""Answers a request: project, what is asked for, and the digest of its subject."""

_inherited: dict[int, socket.socket] = {}
_asking = threading.Lock()


@dataclass(frozen=True)
class SocketSigning:
    """Implements ``ports.SigningProcess`` for one project."""

    address: str
    project: str = ""

    def ask(self, request: SigningRequest, subject: str = "") -> str:
        """The signer's answer.

        Raises:
            AuditError: what the use case in the signer raised.
            Unavailable: there is no signer at the address, or it ended.
        """
        asked = json.dumps({"project": self.project, "request": request, "subject": subject}).encode() + b"\n"
        try:
            answer = json.loads(self._exchange(asked))
        except (OSError, ValueError) as error:
            raise Unavailable(
                f"the signer at {self.address} can't be reached ({error}); start `auditsvc signer`"
            ) from error
        if "code" in answer:
            raise errors_by_code().get(answer["code"], AuditError)(answer["message"])
        return str(answer["result"])

    def _exchange(self, asked: bytes) -> bytes:
        if not self.address.startswith(INHERITED):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(TIMEOUT_S)
                connection.connect(self.address)
                return _line_after(connection, asked)
        with _asking:  # one conversation, which the threads of this process share
            number = int(self.address.removeprefix(INHERITED))
            if number not in _inherited:
                _inherited[number] = socket.socket(fileno=number)
                _inherited[number].settimeout(TIMEOUT_S)
            return _line_after(_inherited[number], asked)


def _line_after(connection: socket.socket, asked: bytes) -> bytes:
    connection.sendall(asked)
    received = bytearray()
    while not received.endswith(b"\n"):
        part = connection.recv(2**16)
        if not part or len(received) > MAX_ANSWER:
            raise ConnectionError("it closed the connection")
        received += part
    return bytes(received)


@dataclass(frozen=True)
class PublicSigner:
    """Implements ``ports.Signer`` where the private key is in the signer process."""

    role: KeyRole
    public_pem: bytes

    def sign(self, data: bytes) -> bytes:  # noqa: ARG002 - the protocol's signature
        """Raises ``Forbidden``: use cases ask the signer process instead."""
        raise Forbidden(f"the {self.role} key is in the signer process, which signs decisions of the ledger, not bytes")


@dataclass(frozen=True)
class SignerKeys:
    """Implements ``ports.Keys`` with the public halves; the signer process has the private ones."""

    signing: SocketSigning

    @cached_property
    def _pems(self) -> Mapping[str, str]:
        pems: Mapping[str, str] = json.loads(self.signing.ask("keys"))
        return pems

    def signer(self, role: KeyRole) -> PublicSigner:
        """The public half.  Raises ``Unavailable``."""
        return PublicSigner(role, self._pems[role].encode())

    def watermark_secret(self) -> bytes:
        """Marking a model needs the secret itself.  Raises ``Unavailable``."""
        return bytes.fromhex(self.signing.ask("watermark-secret"))


def serve_requests(address: str, answer: Answer) -> None:
    """Answer requests: on an inherited socket until its other end is closed, on a path until the process ends.

    Raises:
        Unavailable: the socket can't be made.
    """
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0)  # no core dump, and no reader of this memory but root
    if address.startswith(INHERITED):
        _converse(socket.socket(fileno=int(address.removeprefix(INHERITED))), answer)
        return
    with _listening(Path(address)) as listening:
        while True:
            connection, _ = listening.accept()
            if _is_known(connection, Path(address)):
                threading.Thread(target=_converse, args=(connection, answer), daemon=True).start()
            else:
                connection.close()


def _listening(path: Path) -> socket.socket:
    """A socket for this user and the group of its folder."""
    made = socket.socket(socket.AF_UNIX)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
            path.unlink()  # of a signer that was killed
        made.bind(str(path))
        path.chmod(0o660)
        made.listen(128)
    except OSError as error:
        made.close()
        raise Unavailable(f"the signer can't listen at {path}: {error.strerror or error}") from error
    return made


def _is_known(connection: socket.socket, path: Path) -> bool:
    """Whether the kernel says that the other end is this user, root, or of the socket's group; others are logged."""
    process, user, group = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    known = user in (0, os.getuid()) or group == path.stat().st_gid
    if not known:
        _log.warning("refused process %d of user %d, group %d", process, user, group)
    return known


def _converse(connection: socket.socket, answer: Answer) -> None:
    connection.settimeout(None)
    with connection, connection.makefile("rb") as asked:
        while line := asked.readline(MAX_REQUEST):
            try:
                connection.sendall(json.dumps(_answered(line, answer)).encode() + b"\n")
            except OSError:
                return


def _answered(line: bytes, answer: Answer) -> dict[str, str]:
    try:
        try:
            fields = json.loads(line)
            project, request, subject = (str(fields[name]) for name in ("project", "request", "subject"))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise InvalidInput("a request to the signer has a project, a request and a subject") from error
        return {"result": answer(project, request, subject)}
    except AuditError as error:
        _log.warning("refused %s: %s", line[:200], error)
        return {"code": error.code, "message": str(error)}


def continue_without_keys(command: Sequence[str], secrets: Iterable[str], hidden: Sequence[Path]) -> NoReturn:
    """Start the signer, then run this process's own command again without keys.  Call it before anything is loaded.

    Args:
        command: The signer's command line; the address is added to it.
        secrets: Environment variables that only the signer gets.
        hidden: Folders and files of keys, which this process and its children find empty from then on.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        subprocess.Popen(  # noqa: S603 - our own command
            [*command, f"{INHERITED}{theirs.fileno()}"], pass_fds=[theirs.fileno()], start_new_session=True
        )
    for folder in hidden:
        if not folder.exists():
            folder.mkdir(mode=0o700, parents=True)
    if not _hide(hidden):
        _log.warning("the key files can't be hidden from this worker: run `auditsvc signer` as a user of its own")
    ours.set_inheritable(True)
    kept = {name: value for name, value in os.environ.items() if name not in set(secrets)}
    os.execve(sys.executable, sys.orig_argv, kept | {"AUDITSVC_SIGNER": f"{INHERITED}{ours.fileno()}"})  # noqa: S606


def _hide(paths: Iterable[Path]) -> bool:
    """Cover these with nothing, in namespaces of this process; false where the kernel does not allow it.

    The second pair of namespaces locks the mounts: a process with all rights in it can't unmount them.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()

    def require(code: int) -> None:
        if code:
            raise OSError(ctypes.get_errno(), "refused")

    def enter() -> None:
        require(libc.unshare(_NEW_NAMESPACES))
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            Path("/proc/self", name).write_text(text)

    try:
        enter()
        require(libc.mount(None, b"/", None, _REC | _PRIVATE, None))
        for path in paths:
            if path.is_dir():
                require(libc.mount(b"tmpfs", bytes(path), b"tmpfs", _READ_ONLY, b"size=4k,mode=0500"))
            else:
                require(libc.mount(b"/dev/null", bytes(path), None, _BIND, None))
        enter()
    except (OSError, AttributeError):
        return False
    return True
