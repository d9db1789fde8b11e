"""Pages from templates: no build step, nothing from other hosts, escaped unless a template says otherwise."""

from __future__ import annotations

import datetime
import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse

HERE = Path(__file__).parent
MENU = (
    ("/", "Releases"),
    ("/policies", "Policies"),
    ("/reports", "Reports"),
    ("/statements", "Statements"),
    ("/jobs", "Jobs"),
    ("/log", "Log"),
    ("/verify", "Verify"),
    ("/guide", "Guide"),
    ("/docs", "API"),
)


@cache
def environment() -> Environment:
    """The templates, read once."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(code=code, percent=percent, points=points, short=short, moment=moment)
    return made


def code(text: str) -> Markup:
    """Words with what stands between backquotes set as code; doubled backquotes too."""
    return Markup(re.sub(r"(`{1,2})([^`]+)\1", r"<code>\2</code>", str(escape(text))))  # noqa: S704 - escaped above


def page(request: Request, template: str, here: str, status: int = 200, **facts: Any) -> HTMLResponse:
    """One page; ``here`` is its entry in the menu, and the masthead says who is looking."""
    caller = getattr(request.state, "caller", None)
    text = environment().get_template(template).render(menu=MENU, here=here, caller=caller, **facts)
    return HTMLResponse(text, status)


def percent(value: float) -> str:
    """A share of 1 as people read it."""
    return f"{100 * value:.1f} %"


def points(value: float) -> str:
    """A difference of shares, with its sign; what is lost is positive."""
    return f"{100 * value:+.1f}".replace("-", "\N{MINUS SIGN}")


def short(digest: str) -> str:
    """The beginning of a digest, enough to tell it from others."""
    return digest.removeprefix("sha256:")[:12]


def moment(at: datetime.datetime) -> str:
    """A time, to the minute, in UTC."""
    return at.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M")
