"""``witness``: follow somebody else's log, and sign that it only grew.

To be run under another account than the log, best in another house.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auditsvc.cli.output import Json, print_json
from auditsvc.errors import Conflict, InvalidInput, Unavailable

if TYPE_CHECKING:
    from auditsvc.provenance.signer.log_witness import Witness

witness_app = typer.Typer(
    help="Follow somebody else's log, and sign that it only grew.", no_args_is_help=True, rich_markup_mode=None
)

Folder = Annotated[Path, typer.Argument(help="The witness's own folder: its key, the logs, what it saw.")]
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
    if json:
        print_json({"vkey": vkey, "follows": logs})
    else:
        print(vkey)


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
    from auditsvc.provenance.signer.log_witness import Witness

    signer = read_signer(folder / "witness.key", "log")
    try:
        name = (folder / "name").read_text().strip()
        keys = [NoteKey.parse(line) for line in (folder / "logs").read_text().split()]
    except OSError as error:
        raise Unavailable(f"{folder} is no witness: {error.strerror}; make one with `auditsvc witness new`") from error
    return Witness(name, signer, {key.name: key for key in keys}, folder / "seen.json")
