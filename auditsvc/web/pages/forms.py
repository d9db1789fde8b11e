"""The fields of an HTML form, as the argument of a route."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qs

from fastapi import Depends
from starlette.requests import Request

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
