"""``witness``, ``keys``, ``trust`` and ``log``: cosign another log, manage signing keys, publish trust and proofs.

Run a witness under another account than the log it follows, ideally in another organisation.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from auditsvc.cli.output import Json, Person, Store, command_group, context_for, print_result, settings_for
from auditsvc.errors import Conflict, InvalidInput, LogMismatch, Unavailable

if TYPE_CHECKING:
    from auditsvc.provenance.signer.checkpoints import Witness


keys_app = command_group("The signing keys.")

RequestedBy = Annotated[str, typer.Option(help="Who requests it; you confirm it and are another person.")]
Reason = Annotated[str, typer.Option(help="Reason; it is recorded in the ledger.")]
Since = Annotated[
    int | None, typer.Option("--compromised-since", help="It was compromised from this index of the log on.")
]
_ROLES = ("build", "audit", "release")


@keys_app.command("list")
def list_keys(store: Store = None, json: Json = False) -> None:
    """Every current and retired key, with the range of log entries for which it is valid."""
    from auditsvc.services.signing_context import trust_of

    trust = trust_of(context_for(store))
    lines = []
    for key in trust.keys:
        until = "" if key.not_after_log_index is None else f" to {key.not_after_log_index}"
        since = "" if key.compromised_since is None else f", compromised since {key.compromised_since}"
        lines.append(f"{key.role:<8} {key.hint}  log index {key.from_log_index}{until or ' on'}{since}")
    print_result(json, {"keys": [key.model_dump(mode="json", exclude_none=True) for key in trust.keys]}, *lines)


@keys_app.command("retire")
def retire(
    role: Annotated[str, typer.Argument(help="build, audit or release.")],
    reason: Reason,
    requested_by: RequestedBy,
    person: Person,
    compromised_since: Since = None,
    to: Annotated[
        str | None, typer.Option(help="Where the new key is, as in AUDITSVC_RELEASE_KEY. [default: a new file]")
    ] = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Replace the key of a role: what the old key signed until now stays valid, nothing that it signs later is."""
    from auditsvc.adapters.file_keys import FileKeys
    from auditsvc.bootstrap import open_signer
    from auditsvc.services.key_rotation import retire as end

    if role not in _ROLES:
        raise InvalidInput(f"a role is one of {', '.join(_ROLES)}; the log's key is the log's name and stays")
    chosen = cast(Literal["build", "audit", "release"], role)
    ctx = context_for(store)
    if ctx.signing:
        raise InvalidInput("retire a key where the signer keeps it: as its user, without AUDITSVC_SIGNER")
    successor = open_signer(to, chosen, settings_for(store)) if to else None
    keys = cast(FileKeys, ctx.keys)
    options: dict[str, Any] = {"successor": successor, "compromised_since": compromised_since}
    record = end(ctx, chosen, reason, requested_by, keys, confirmed_by=person, **options)
    print_result(
        json,
        record,
        f"the {role} key is valid for log entries before {record.log_size}; a new key replaces it",
        *([f"from now on set AUDITSVC_{role.upper()}_KEY to the new key"] if to else []),
        "publish it with `auditsvc trust publish`; readers who pinned the old release key follow it",
    )


@keys_app.command("compromised")
def compromised(
    public: Annotated[Path, typer.Argument(help="The public half of a retired key: release.retired-1.pub.")],
    since: Annotated[int, typer.Option(help="From this index of the log on.")],
    reason: Reason,
    requested_by: RequestedBy,
    person: Person,
    store: Store = None,
    json: Json = False,
) -> None:
    """Mark a retired key as compromised: what it signed since then is no longer valid."""
    from auditsvc.services.key_rotation import compromise

    try:
        pem = public.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{public} can't be read: {error}") from error
    record = compromise(context_for(store), pem, since, reason, requested_by, confirmed_by=person)
    words = f"nothing that this {record.role} key signed from log entry {since} on is valid; publish the trust again"
    print_result(json, record, words)


trust_app = command_group("The keys that readers trust, and what was revoked.")
log_app = command_group("The transparency log.")


@trust_app.command("publish")
def publish(
    out: Annotated[Path | None, typer.Option(help="The folder. [default: trust in the store]")] = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Publish the trusted keys and all revocations (TUF).  Run it daily; copy the folder to where readers fetch it."""
    from auditsvc.services import key_rotation

    ctx = context_for(store)
    folder = out or key_rotation.trust_folder(ctx)
    count = len(key_rotation.publish(ctx, folder).revocations)
    words = f"published {folder} with {count} revocations; it is valid for a day"
    print_result(json, {"folder": str(folder), "revocations": count}, words)


@trust_app.command("show")
def show(store: Store = None) -> None:
    """Print the trust policy.  Every public key, what it may sign, the log, witnesses and timestamps."""
    from auditsvc.services.signing_context import trust_of

    print(trust_of(context_for(store)).to_json().decode())


@log_app.command("checkpoint")
def checkpoint(store: Store = None) -> None:
    """Print the log's signed checkpoint.  Keep a copy elsewhere: then a rewritten log is detected."""
    from auditsvc.services.signing_context import checkpoint_store_of

    print(checkpoint_store_of(context_for(store)).current(), end="")


@log_app.command("check")
def check(store: Store = None, json: Json = False) -> None:
    """Check the ledger against its log.  Exit code 0 if every record and index follows from it, 4 if not.

    The service does so at its start and every hour; until a mismatch is repaired the gate gives no answer.
    """
    from auditsvc.services.log_check import check_log

    found = check_log(context_for(store))
    intact = f"all records and indexes follow from the {found.entries} entries of the log"
    print_result(json, found, *found.faults, f"{len(found.faults)} differences" if found.faults else intact)
    if found.faults:
        raise typer.Exit(LogMismatch.exit_code)


@log_app.command("key")
def key(store: Store = None) -> None:
    """Print the verification key (vkey) of this log."""
    from auditsvc.services.signing_context import trust_of

    log = trust_of(context_for(store)).log
    print(log.vkey if log else "")


witness_app = command_group("Follow another log and cosign its checkpoints.")

Folder = Annotated[Path, typer.Argument(help="The witness's folder: its key, the logs and their last checkpoints.")]
_MOST = 64 * 1024


@witness_app.command("new")
def new(
    folder: Folder,
    name: Annotated[str, typer.Option(help="The witness's name, as in `witness.example/w1`.")],
    log: Annotated[list[str], typer.Option(help="A log to follow, by its key (`vkey`); may be repeated.")],
    json: Json = False,
) -> None:
    """Make a witness with a key of its own.  Prints the key that others trust."""
    from cryptography.hazmat.primitives.asymmetric import ed25519
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    from auditsvc.provenance.formats.signed_note import NoteKey

    logs = [NoteKey.parse(vkey).vkey for vkey in log]
    if "+" in name or any(c.isspace() for c in name) or not name:
        raise InvalidInput("a witness's name has no space and no plus sign")
    pem = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(folder / "witness.key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
        (folder / "name").write_text(name + "\n")
        (folder / "logs").write_text("".join(f"{vkey}\n" for vkey in logs))
    except FileExistsError as error:
        raise Conflict(f"{folder} holds a witness already") from error
    except OSError as error:
        raise Unavailable(f"{folder} can't be written: {error.strerror}") from error
    vkey = _witness(folder).key.vkey
    print_result(json, {"vkey": vkey, "follows": logs}, vkey)


@witness_app.command("add-checkpoint")
def add_checkpoint(folder: Folder) -> None:
    """Answer one add-checkpoint request from standard input.  C2SP tlog-witness; exit code 1 if it is refused."""
    status, body = _witness(folder).answer(sys.stdin.buffer.read(_MOST), datetime.now(UTC))
    if status == 200:
        print(body, end="")
        return
    print(f"{status} {body}", end="", file=sys.stderr)
    raise typer.Exit(1)


@witness_app.command("serve")
def serve(
    folder: Folder,
    host: Annotated[str, typer.Option(help="Address to bind to.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to bind to.")] = 8610,
) -> None:
    """Answer POST /add-checkpoint over HTTP.  One request at a time; put a TLS proxy in front of it."""
    from http.server import BaseHTTPRequestHandler, HTTPServer

    witness = _witness(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = self.headers.get("content-length", "")
            if self.path != "/add-checkpoint" or not size.isdecimal() or int(size) > _MOST:
                status, body = 400, "POST at most 64 KiB to /add-checkpoint\n"
            else:
                status, body = witness.answer(self.rfile.read(int(size)), datetime.now(UTC))
            kind = "text/x.tlog.size" if status == 409 else "text/plain; charset=utf-8"
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

    try:
        server = HTTPServer((host, port), Handler)
    except OSError as error:
        raise Unavailable(f"can't listen on {host} port {port}: {error.strerror}; try --port") from error
    print(f"witness {witness.key.vkey} on http://{host}:{server.server_port}", file=sys.stderr, flush=True)
    with server:
        server.serve_forever()


def _witness(folder: Path) -> Witness:
    from auditsvc.adapters.file_keys import read_signer
    from auditsvc.provenance.formats.signed_note import NoteKey
    from auditsvc.provenance.signer.checkpoints import Witness

    signer = read_signer(folder / "witness.key", "log")
    try:
        name = (folder / "name").read_text().strip()
        keys = [NoteKey.parse(line) for line in (folder / "logs").read_text().split()]
    except OSError as error:
        raise Unavailable(f"{folder} is no witness: {error.strerror}; make one with `auditsvc witness new`") from error
    return Witness(name, signer, {key.name: key for key in keys}, folder / "seen.json")
