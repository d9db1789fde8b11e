"""What is being worked on, for every line that is logged meanwhile: the request's id, the job's id.

It follows the work into the threads and tasks that it starts, and is never passed along by hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_ABOUT: ContextVar[Mapping[str, str]] = ContextVar("auditsvc_about", default={})  # noqa: B039 - never changed in place


def known() -> Mapping[str, str]:
    """What is being worked on here and now."""
    return _ABOUT.get()


@contextmanager
def about(**facts: str) -> Iterator[None]:
    """Add these facts to every line until the end of the block."""
    token = _ABOUT.set({**_ABOUT.get(), **facts})
    try:
        yield
    finally:
        _ABOUT.reset(token)
