"""What a browser's form sends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qs

from fastapi import Depends
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from auditsvc.errors import InvalidInput
from auditsvc.records import faults_of

MOST_FIELDS = 200
"""The questionnaire is the longest form: an answer and a reason for each question."""

G = TypeVar("G", bound=BaseModel)


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
"""A form that was sent, as the argument of a route."""


def given_as(kind: type[G], fields: Mapping[str, Any]) -> G:
    """What the API's verb takes, from a form's fields; a field that was left empty was not given.

    Raises:
        InvalidInput: the fields don't fit; lists all that is wrong.
    """
    try:
        return kind.model_validate({name: value for name, value in fields.items() if value not in ("", None)})
    except ValidationError as error:
        raise InvalidInput("the form can't be used like this", faults_of(error)) from error
