"""Pages to read: policies with a backtest, the guide, report files, the log, and the page that verifies files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import yaml
from fastapi import Path as InPath
from fastapi import Request
from markupsafe import Markup
from starlette.responses import HTMLResponse, Response

from auditsvc.errors import InvalidInput, NotFound
from auditsvc.records import Candidate, Decision, Digest, Name, Policy
from auditsvc.records.base import decode_event
from auditsvc.records.messages import differences
from auditsvc.resources import resource_dir
from auditsvc.services.decisions import backtest
from auditsvc.services.signing_context import checkpoint_store_of
from auditsvc.web.auth.authentication import Router, site_of
from auditsvc.web.record_routes import form_route
from auditsvc.web.rendering import Form, page
from auditsvc.web.v1 import policies as api
from auditsvc.web.v1.releases import REPORT_POLICY

router = Router(include_in_schema=False)

SHOWN = 50


def shipped_policies() -> dict[str, str]:
    """The text of each shipped policy by its name."""
    return {path.stem: path.read_text("utf-8") for path in sorted((resource_dir("policies") / "gates").glob("*.yaml"))}


@router.get("/policies", needs="reader")
def policies_page(request: Request, of: str = "standard") -> HTMLResponse:
    """The policies in use, and a form for a backtest of another one."""
    used = [item for _, item in site_of(request).ledger.page(Policy, limit=SHOWN)]
    texts = shipped_policies()
    return page(
        request,
        "policies.html",
        "/policies",
        used=used,
        names=list(texts),
        chosen=of if of in texts else "",
        text=texts.get(of, ""),
    )


@router.get("/policies/{name}", needs="reader")
def policy_page(request: Request, name: Annotated[Name | Digest, InPath()]) -> HTMLResponse:
    """One policy as a table, with a form for the usual changes; a shipped one by name, others by digest.

    Raises:
        NotFound: there is none.
    """
    ledger, shipped = site_of(request).ledger, shipped_policies()
    if name.startswith("sha256:"):
        found = ledger.get(Policy, name)
    elif name in shipped:  # as it is written: reading it as an audit does would import every check
        return page(request, "policy.html", "/policies", policy=_written(shipped[name]), name=name, versions=())
    else:
        raise NotFound(f"no policy {name} is shipped; see /policies for all of them")
    others = [one for _, one in ledger.page(Policy, limit=SHOWN) if one.policy == found.policy]
    versions = [(one, differences(one, found)) for one in others if one.digest != found.digest]
    return page(request, "policy.html", "/policies", policy=found, name=name, versions=versions)


@cache
def _written(text: str) -> Policy:
    return Policy.model_validate(yaml.safe_load(text))


@router.post("/policies/backtests", needs="reader")
def run_backtest(request: Request, given: Form) -> Response:
    """What a policy would have decided for every past decision; nothing is measured or stored.

    It is the YAML of the form, or the policy ``base`` with the changed fields of the form.
    """
    from auditsvc.services.policies import parse_policy, resolve_remote_policy

    ledger, text = site_of(request).ledger, given.get("policy", "")
    facts: dict[str, Any] = {"faults": (), "rows": (), "changes": (), "base": given.get("base", "")}
    try:
        if facts["base"]:
            base = resolve_remote_policy(facts["base"], ledger)
            text = changed_policy(base, given)
        policy = parse_policy(text, "policy")
        facts["rows"] = tuple(backtest(policy, ledger, given.get("model") or None))
        facts["changes"] = differences(base, policy) if facts["base"] else ()
    except InvalidInput as error:
        facts["faults"] = error.reasons or (str(error),)
    return page(request, "backtest.html", "/policies", text=text, **facts)


def changed_policy(base: Policy, given: Mapping[str, str]) -> str:
    """The YAML of the next version of a policy, with the approvals, limits and numbers of images of a form.

    Raises:
        InvalidInput: a field is not a number.
    """
    fields = base.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    fields |= {"version": base.version + 1, "approvals": _number(given, "approvals", base.approvals)}
    for rule, old in zip(fields["rules"], base.rules, strict=True):
        rule["at_least" if old.at_least is not None else "at_most"] = _number(given, f"limit.{old.rule}", old.limit)
        rule["min_images"] = _number(given, f"images.{old.rule}", old.min_images)
        rule["severity"] = given.get(f"severity.{old.rule}") or old.severity
    text: str = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=110)
    return text


def _number(given: Mapping[str, str], name: str, known: float) -> float:
    """The number in a field, a whole one where the known one is; the known one where the field is empty."""
    text = given.get(name, "").strip()
    try:
        return type(known)(text) if text else known
    except ValueError as error:
        raise InvalidInput(f"{name}: {text!r} is not a number that fits here") from error


def _saved(_request: Request, _digest: str) -> str:
    return "/policies"


form_route(router, "/policies", "approver", api.create_policy, api.PolicyText, _saved)


_FOLDER = Path(__file__).parents[2] / "guide"


@router.get("/guide", needs="reader")
def guide(request: Request) -> HTMLResponse:
    """The table of contents."""
    return _guide_page(request, "index")


@router.get("/guide/{name:path}", needs="reader")
def guide_page(request: Request, name: str) -> HTMLResponse:
    """One page of the guide.  Raises ``NotFound``."""
    return _guide_page(request, name)


def _guide_page(request: Request, name: str) -> HTMLResponse:
    title, body = _rendered(name)
    return page(request, "guide.html", "/guide", title=title, body=body)


@cache
def _rendered(name: str) -> tuple[str, Markup]:
    """Title and HTML of a page; links to other pages of the guide become links of the service."""
    from markdown_it import MarkdownIt

    if name not in _names():
        raise NotFound(f"the guide has no page {name!r}; see /guide for all of them")
    text = (_FOLDER / f"{name}.md").read_text("utf-8")
    parent = name.rpartition("/")[0]
    base = f"/guide/{parent}/" if parent else "/guide/"
    text = re.sub(r"\]\(([A-Za-z0-9_/-]+)\.md(#[^)]*)?\)", rf"]({base}\1\2)", text)
    html = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    return text.partition("\n")[0].removeprefix("# "), Markup(html)  # noqa: S704 - our own files, HTML switched off


@cache
def _names() -> frozenset[str]:
    return frozenset(path.relative_to(_FOLDER).with_suffix("").as_posix() for path in _FOLDER.rglob("*.md"))


MEDIA_TYPES = {
    ".html": "text/html",
    ".pdf": "application/pdf",
    ".json": "application/json",
    ".md": "text/markdown",
    ".csv": "text/csv",
    ".zip": "application/zip",
    ".xml": "application/xml",
    ".sarif": "application/sarif+json",
}
"""Media types by file extension; other files in the folder are not served."""

HIDDEN = ("pictures.json",)


def report_files(folder: Path) -> list[str]:
    """The files of the report in this folder that are served."""
    return sorted(one.name for one in folder.glob("*.*") if one.suffix in MEDIA_TYPES and one.name not in HIDDEN)


@router.get("/reports/{model}/{version}/{folder}/{file}", needs="reader")
def report_file(
    request: Request,
    model: Annotated[Name, InPath()],
    version: Annotated[str, InPath(pattern="^[1-9][0-9]*$")],
    folder: Annotated[str, InPath(pattern="^[0-9a-f]{16}$")],
    file: Annotated[str, InPath(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")],
) -> Response:
    """One file of a report; an HTML report runs in a sandbox."""
    place = site_of(request).folder / "reports" / model / version / folder
    names = {one.name: one for one in place.glob("*.*") if one.suffix in MEDIA_TYPES} if place.is_dir() else {}
    if file not in names:
        raise NotFound(f"there is no report {file} of {model} version {version} in this store")
    kind = MEDIA_TYPES[names[file].suffix]
    shown = kind in ("text/html", "application/pdf")
    headers = {"content-security-policy": REPORT_POLICY} if kind == "text/html" else {}
    if not shown:
        headers["content-disposition"] = f'attachment; filename="{model}-{version}-{file}"'
    return Response(names[file].read_bytes(), media_type=kind, headers=headers)


SHOWN_EVENTS = 60

OBJECT_PAGES = {Candidate.event: "/candidates", Decision.event: "/decisions"}
"""Kinds of record that have a page; the others link to their provenance in the API."""


@router.get("/log", needs="reader")
def log_page(request: Request, before: int | None = None) -> HTMLResponse:
    """The newest entries, or those before an index."""
    site = site_of(request)
    size = site.ledger.size()
    end = size if before is None else max(0, min(before, size))
    start = max(0, end - SHOWN_EVENTS)
    entries = [(index, _log_event(site.ledger.leaf(index))) for index in range(end - 1, start - 1, -1)]
    checkpoint = checkpoint_store_of(site.ctx).current()
    return page(request, "log.html", "/log", entries=entries, start=start, size=size, checkpoint=checkpoint)


def _log_event(leaf: bytes) -> dict[str, Any]:
    """The fields of an event; a leaf that is not an event is a logged signature."""
    event = decode_event(leaf)
    if event is None:
        return {"type": "signature", "actor": "", "at": "", "object": "", "href": ""}
    about = str(event.get("object", ""))
    path = OBJECT_PAGES.get(event["type"])
    href = (f"{path}/{about}" if path else f"/v1/provenance/{about}") if about.startswith("sha256:") else ""
    return {"type": event["type"], "actor": event["actor"], "at": event["at"], "object": about, "href": href}


@router.get("/verify", needs="reader")
def verify_page(request: Request) -> HTMLResponse:
    """A drop zone for a file; its script sends the file to ``POST /v1/verify`` and shows the result."""
    return page(request, "verify.html", "/verify")
