"""The transparency log (signed checkpoints, proofs, entries and tiles), and the keys to check it with.

``/v1/log`` follows the C2SP specification "tlog-tiles" (``checkpoint``, ``tile/...``), so that a public witness or a
mirror can follow the log without knowing anything else about this service.

A checkpoint is signed once for each size and stored. If the database was restored from an old backup, the log no longer
extends the published checkpoint, and nothing is signed until it does.

The TUF repository (trusted keys and revocations) is for verifiers that update themselves.  It is published again on
request once half of its validity is over, or after a revocation.
"""

from __future__ import annotations

import base64
from threading import Lock
from typing import Annotated, get_args

from fastapi import Path, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from auditsvc.errors import InvalidInput, NotFound
from auditsvc.ports import KeyRole, LoggedLedger
from auditsvc.provenance.formats import merkle_log
from auditsvc.provenance.formats.merkle_log import WIDTH, Tile, entry_tile, hash_tile
from auditsvc.provenance.formats.release_layout import read_or_none
from auditsvc.records import Digest
from auditsvc.services.signing_context import checkpoint_store_of, trust_of
from auditsvc.web.auth.authentication import BINARY, Router, site_of
from auditsvc.web.record_routes import IMMUTABLE
from auditsvc.web.state import ProjectState

router = Router(tags=["log"])

Size = Annotated[int | None, Query(ge=1, le=2**53, description="The tree size; the newest by default.")]
Index = Annotated[int, Path(ge=0, le=2**53, description="The entry's index, from 0.")]
_TILE = r"^(entries|[0-9]|[1-5][0-9]|6[0-3])/(x[0-9]{3}/)*[0-9]{3}(\.p/[1-9][0-9]{0,2})?$"
TilePath = Annotated[str, Path(pattern=_TILE, max_length=100, description="As in C2SP tlog-tiles: `0/000`.")]
_TEXT = {"text/plain": {"schema": {"type": "string"}}}
_BYTES = {"application/octet-stream": BINARY}
_ENTRY = {"application/json": {}, **_BYTES}


class Inclusion(BaseModel):
    """An inclusion proof: hashing `leaf` along `path` gives `root` (RFC 6962)."""

    index: int
    size: int
    leaf: str
    path: list[str]
    root: str


class Consistency(BaseModel):
    """A consistency proof: the tree of size `new` extends the tree of size `old`."""

    old: int
    new: int
    old_root: str
    new_root: str
    path: list[str]


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


@router.get("/v1/log/checkpoint", needs="reader", sends=_TEXT, summary="Get the checkpoint")
def get_checkpoint(request: Request) -> Response:
    """Origin, size and root, signed by the log's key: a C2SP signed note.

    `409` if the log no longer extends the published checkpoint: nothing is signed until it is restored.
    """
    return Response(checkpoint_store_of(site_of(request).ctx).current(), media_type="text/plain; charset=utf-8")


@router.get("/v1/log/inclusion", needs="reader", summary="Get an inclusion proof")
def get_inclusion_proof(
    request: Request,
    object: Annotated[Digest | None, Query(description="The digest of a record.")] = None,
    index: Annotated[
        int | None, Query(ge=0, le=2**53, description="The index of an entry, instead of `object`.")
    ] = None,
    size: Size = None,
) -> Inclusion:
    """The audit path of one entry in a tree of this size; hashes in base64."""
    ledger: LoggedLedger = site_of(request).ledger
    if (object is None) == (index is None):
        raise InvalidInput("give either `object` or `index`")
    at = ledger.leaf_index(object) if object is not None else index or 0
    within = size or ledger.size()
    path = ledger.inclusion(at, within)
    leaf = merkle_log.leaf_hash(ledger.leaf(at))
    return Inclusion(
        index=at, size=within, leaf=_text(leaf), path=[_text(node) for node in path], root=_text(ledger.root(within))
    )


@router.get("/v1/log/consistency", needs="reader", summary="Get a consistency proof")
def get_consistency_proof(
    request: Request,
    old: Annotated[int, Query(ge=1, le=2**53, description="The size of a checkpoint that you saved.")],
    new: Size = None,
) -> Consistency:
    """The proof between two tree sizes; hashes in base64."""
    ledger: LoggedLedger = site_of(request).ledger
    now = new or ledger.size()
    path = ledger.consistency(old, now)
    roots = {"old_root": _text(ledger.root(old)), "new_root": _text(ledger.root(now))}
    return Consistency(old=old, new=now, path=[_text(node) for node in path], **roots)


@router.get("/v1/log/entries/{index}", needs="reader", sends=_ENTRY, summary="Get one entry")
def get_log_entry(request: Request, index: Index) -> Response:
    """The bytes of an entry: an event as JSON (actor, type, record, time), or a logged signature."""
    site: ProjectState = site_of(request)
    data = site.ledger.leaf(index)
    kind = "application/json" if data.startswith(b"{") else "application/octet-stream"
    return Response(data, media_type=kind, headers=IMMUTABLE)


@router.get("/v1/log/tile/{path:path}", needs="reader", sends=_BYTES, summary="Get one tile")
def get_log_tile(request: Request, path: TilePath) -> Response:
    """256 hashes or entries that never change; a client computes its own proofs from them."""
    ledger: LoggedLedger = site_of(request).ledger
    wanted, size = Tile.parse(f"tile/{path}"), ledger.size()
    if wanted.level is None:
        data = entry_tile(wanted, size, ledger.leaf)
    else:
        data = hash_tile(wanted, size, lambda level, index: _node(ledger, level, index))
    headers = IMMUTABLE if wanted.width == WIDTH else {}
    return Response(data, media_type="application/octet-stream", headers=headers)


def _node(ledger: LoggedLedger, level: int, index: int) -> bytes:
    """The hash of a complete subtree, made of its first leaf and that leaf's siblings on the way up."""
    first = index << level
    found = merkle_log.leaf_hash(ledger.leaf(first))
    for sibling in ledger.inclusion(first, (index + 1) << level)[:level] if level else ():
        found = merkle_log.node_hash(found, sibling)
    return found


class PublicKey(BaseModel):
    """One key: its role, and the public key as PEM."""

    role: KeyRole
    pem: str


@router.get("/v1/keys", needs="reader", summary="List public keys")
def list_keys(request: Request) -> list[PublicKey]:
    """One key for each role. Before you trust them, compare them with a copy from another channel."""
    site: ProjectState = site_of(request)
    roles: tuple[KeyRole, ...] = get_args(KeyRole)
    return [PublicKey(role=role, pem=site.keys.signer(role).public_pem.decode()) for role in roles]


@router.get("/v1/keys/trust-policy", needs="reader", sends={"application/json": {}}, summary="Get the trust policy")
def get_trust_policy(request: Request) -> Response:
    """All keys with what each may sign, in the format of `auditsvc verify --key`."""
    return Response(trust_of(site_of(request).ctx).to_json(), media_type="application/json")


_FILE = r"^(metadata/(timestamp|[1-9][0-9]{0,8}\.(root|snapshot|targets))|targets/[0-9a-f]{64}\.[a-z-]{1,40})\.json$"
_publish_lock = Lock()


@router.get("/v1/trust/{path:path}", needs="reader", sends={"application/json": {}}, summary="Get a TUF file")
def get_trust_file(
    request: Request,
    path: Annotated[str, Path(pattern=_FILE, max_length=160, description="As in TUF: `metadata/timestamp.json`.")],
) -> Response:
    """One file of the TUF repository; `auditsvc verify DIR --key release.pub --trust .../v1/trust` reads it."""
    from auditsvc.services.key_rotation import keep_fresh, trust_folder

    ctx = site_of(request).ctx
    if path == "metadata/timestamp.json":
        with _publish_lock:
            keep_fresh(ctx)
    data = read_or_none(trust_folder(ctx) / path)
    if data is None:
        raise NotFound(f"the TUF repository has no file {path}")
    return Response(data, media_type="application/json", headers=IMMUTABLE if path[0] == "t" else {})
