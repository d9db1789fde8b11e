"""The guide that ships with the package, as pages."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from fastapi import Request
from markupsafe import Markup
from starlette.responses import HTMLResponse

from auditsvc.errors import NotFound
from auditsvc.web.auth.authentication import Router
from auditsvc.web.rendering import page

router = Router(include_in_schema=False)

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
