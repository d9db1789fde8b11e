"""``keys``: which keys sign here, and what to do when one of them has served or was lost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from auditsvc.cli.output import Json, Person, Store, context_for, print_json, settings_for
from auditsvc.errors import InvalidInput

keys_app = typer.Typer(help="The signing keys.", no_args_is_help=True, rich_markup_mode=None)

RequestedBy = Annotated[str, typer.Option(help="Who asks for it; you, who confirm, are another person.")]
Reason = Annotated[str, typer.Option(help="Why; it stands in the ledger.")]
Since = Annotated[
    int | None, typer.Option("--compromised-since", help="It was in foreign hands from this index of the log on.")
]
_ROLES = ("build", "audit", "release")


@keys_app.command("list")
def list_keys(store: Store = None, json: Json = False) -> None:
    """Every key that counts or counted, with its window of the log."""
    from auditsvc.services.signing_context import trust_of

    trust = trust_of(context_for(store))
    if json:
        print_json({"keys": [key.model_dump(mode="json", exclude_none=True) for key in trust.keys]})
        return
    for key in trust.keys:
        until = "" if key.not_after_log_index is None else f" to {key.not_after_log_index}"
        since = "" if key.compromised_since is None else f", in foreign hands since {key.compromised_since}"
        print(f"{key.role:<8} {key.hint}  log index {key.from_log_index}{until or ' on'}{since}")


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
    """Put a new key in the place of a role's: what the old one signed so far still holds, nothing after that does."""
    from auditsvc.adapters.file_keys import FileKeys
    from auditsvc.bootstrap import open_signer
    from auditsvc.services.key_rotation import retire as end

    if role not in _ROLES:
        raise InvalidInput(f"a role is one of {', '.join(_ROLES)}; the log's key is the log's name and stays")
    chosen = cast(Literal["build", "audit", "release"], role)
    ctx = context_for(store)
    successor = open_signer(to, chosen, settings_for(store)) if to else None
    keys = cast(FileKeys, ctx.keys)
    options: dict[str, Any] = {"successor": successor, "compromised_since": compromised_since}
    record = end(ctx, chosen, reason, requested_by, keys, confirmed_by=person, **options)
    if json:
        print_json(record)
        return
    print(f"the {role} key counts for log entries before {record.log_size}; a new one is in its place")
    if to:
        print(f"from now on set AUDITSVC_{role.upper()}_KEY to the new place")
    print("tell readers by `auditsvc trust publish`; those who pinned the old release key follow it")


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
    """Say of a retired key that it was in foreign hands: what it signed since then is not valid any more."""
    from auditsvc.services.key_rotation import compromise

    try:
        pem = public.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{public} can't be read: {error}") from error
    record = compromise(context_for(store), pem, since, reason, requested_by, confirmed_by=person)
    if json:
        print_json(record)
    else:
        print(f"nothing that this {record.role} key signed from log entry {since} on is valid; publish the trust again")
