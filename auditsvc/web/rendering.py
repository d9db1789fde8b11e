"""HTML pages from Jinja templates, with automatic escaping.

The fields of an HTML form, as the argument of a route.
"""

from __future__ import annotations

import datetime
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import Depends
from jinja2 import Environment
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse

from auditsvc.compliance.render.html import short, template_environment
from auditsvc.compliance.report.wording import interval_text, sentence_case, slice_words, value_text
from auditsvc.errors import InvalidInput

MOST_FIELDS = 200
"""The questionnaire is the longest form: an answer and a reason for each question."""


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form, each once.

    Raises:
        InvalidInput: the body is not a form.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind != "application/x-www-form-urlencoded":
        raise InvalidInput("this takes a form; programs use the API under /v1")
    try:
        fields = parse_qs((await request.body()).decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError as error:
        raise InvalidInput(f"the form can't be read: {error}") from error
    return {name: values[0] for name, values in fields.items()}


Form = Annotated[dict[str, str], Depends(form_of)]
"""The fields of the form in the body, each once."""


HERE = Path(__file__).parent
MENU = (
    ("/", "Home"),
    ("/models", "Models"),
    ("/policies", "Policies"),
    ("/statements", "Statements"),
    ("/jobs", "Jobs"),
    ("/log", "Log"),
    ("/verify", "Verify"),
    ("/guide", "Guide"),
    ("/docs", "API"),
)
ADMIN_MENU = (("/admin", "Admin"),)


@cache
def environment() -> Environment:
    """The template environment, created once."""
    made = template_environment(HERE / "templates")
    made.globals.update(
        value_text=value_text, interval_text=interval_text, slice_words=slice_words, sentence_case=sentence_case
    )
    made.filters.update(code=code, percent=percent, points=points, short=short, moment=moment)
    return made


def code(text: str) -> Markup:
    """Text with every span in single or double backquotes as ``<code>``."""
    return Markup(re.sub(r"(`{1,2})([^`]+)\1", r"<code>\2</code>", str(escape(text))))  # noqa: S704 - escaped above


def page(request: Request, template: str, here: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A rendered page; ``here`` is its entry in the navigation."""
    caller = getattr(request.state, "caller", None)
    menu = MENU + ADMIN_MENU if caller and caller.may("admin") else MENU
    text = environment().get_template(template).render(menu=menu, here=here, caller=caller, **context)
    prefix = request.scope.get("state", {}).get("prefix", "")
    return HTMLResponse(_LINK.sub(rf'\1="{prefix}/', text) if prefix else text, status)


_LINK = re.compile(r'\b(href|src|action|hx-get|hx-post|spec-url)="/(?!/)')
"""Links of templates begin at the service's own root; behind a public URL with a path they get that path."""


def percent(value: float) -> str:
    """A fraction of 1 in percent."""
    return f"{100 * value:.1f} %"


def points(value: float) -> str:
    """A difference of fractions in percentage points, with its sign; a loss is positive."""
    return f"{100 * value:+.1f}".replace("-", "\N{MINUS SIGN}")


def moment(at: datetime.datetime) -> Markup:
    """A time to the minute: in UTC, and by the script of every page in the reader's zone, with UTC on hover."""
    utc = at.astimezone(datetime.UTC)
    return Markup('<time datetime="{}">{}</time>').format(utc.isoformat(), utc.strftime("%Y-%m-%d %H:%M UTC"))
