"""Pages from templates: no build step, nothing from other hosts, escaped unless a template says otherwise."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse

HERE = Path(__file__).parent
MENU: tuple[tuple[str, str], ...] = (("/docs", "API"),)


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
    made.filters["code"] = code
    return made


def code(text: str) -> Markup:
    """Words with what stands between backquotes set as code; doubled backquotes too."""
    return Markup(re.sub(r"(`{1,2})([^`]+)\1", r"<code>\2</code>", str(escape(text))))  # noqa: S704 - escaped above


def page(template: str, here: str, status: int = 200, who: str = "", **facts: Any) -> HTMLResponse:
    """One page; ``here`` is its entry in the menu."""
    text = environment().get_template(template).render(menu=MENU, here=here, who=who, **facts)
    return HTMLResponse(text, status)
