"""Every operation of the OpenAPI document, called with thousands of generated requests: it keeps what it says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.stateful import run_state_machine_as_test
from schemathesis import Case, GenerationMode
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi.checks import positive_data_acceptance

from auditsvc.ports import Context
from auditsvc.web import create_app
from auditsvc.web.auth.token_store import TokenStore
from auditsvc.web.gate_cache import GateCache
from auditsvc.web.state import ProjectState
from tests.fakes import FixedClock, MemoryBlobs, MemoryKeys, MemoryLedger, MemoryRegistry, QuietProgress
from tests.fakes.jobs import MemoryJobs
from tests.web import sample

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "15"))
"""Requests for each operation and kind of data."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> ProjectState:
    folder: Path = tmp_path_factory.mktemp("site")
    clock = FixedClock()
    ledger, keys, registry = MemoryLedger(clock), MemoryKeys(), MemoryRegistry()
    sample.fill(ledger)
    sample.register(registry)
    ctx = Context(
        ledger=ledger,
        log=ledger,
        blobs=MemoryBlobs(),
        registry=registry,
        datasets=None,  # type: ignore[arg-type]
        keys=keys,
        clock=clock,
        progress=QuietProgress(),
        folder=folder,
    )
    return ProjectState(
        access=TokenStore(f"sqlite:///{folder}/access.db", clock),
        answers=GateCache(ledger, None),
        ctx=ctx,
        jobs=MemoryJobs(refused="nobody works here"),
        local=False,
        hosts=frozenset({"127.0.0.1", "localhost", "testserver"}),
    )


@pytest.fixture
def tokens(served: ProjectState) -> dict[str, str]:
    """A token for each role."""
    return _tokens(served)


def _tokens(served: ProjectState) -> dict[str, str]:
    roles = ("reader", "submitter", "auditor", "approver", "admin")
    return {role: served.access.issue(f"a-{role}", role, 30)[0] for role in roles}


@pytest.fixture(scope="module")
def document(served: ProjectState) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_asgi("/openapi.json", create_app(served))


@schemathesis.hook("filter_query")
def that_arrives(context: Any, query: dict[str, Any] | None) -> bool:
    """An empty object or list as the value of a parameter is sent as no parameter at all: nothing wrong arrives."""
    return not any(value in ({}, []) for value in (query or {}).values())


def _headers(case: Case, tokens: dict[str, str]) -> dict[str, str]:
    """The token of the role that the operation needs."""
    needed = case.operation.definition.raw["x-role"]
    return {"Authorization": f"Bearer {tokens[needed]}"} if needed in tokens else {}


def _tried(operation: Any, tokens: dict[str, str], mode: GenerationMode) -> tuple[int, list[str]]:
    """The number of requests that were sent, and what was wrong with the answers."""
    sent = 0

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    def asked(case: Case) -> None:
        nonlocal sent
        sent += 1
        case.call_and_validate(headers=_headers(case, tokens), excluded_checks=[positive_data_acceptance])

    try:
        asked()
    except Unsatisfiable:
        return sent, []  # nothing can be wrong with an operation that takes nothing
    except FailureGroup as group:
        return sent, [f"{operation.label}: {fault}" for fault in group.exceptions]
    except Failure as fault:
        return sent, [f"{operation.label}: {fault}"]
    return sent, []


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_the_service_keeps_what_its_document_says(
    document: schemathesis.BaseSchema, tokens: dict[str, str], mode: GenerationMode
) -> None:
    """No server error; only the statuses, types and bodies that are declared; nothing without its token.

    Left out is the check that whatever fits the schema is accepted: what makes sense is more than a schema can say.
    """
    sent, faults = 0, []
    for found in document.get_all_operations():
        number, wrong = _tried(found.ok(), tokens, mode)
        sent += number
        faults += wrong
    print(f"{mode.value}: {sent} requests")
    assert not faults, "\n".join(faults)
    assert sent > 10 * EXAMPLES


def test_what_one_answer_names_can_be_used_in_the_next_request(
    document: schemathesis.BaseSchema, served: ProjectState
) -> None:
    """Stateful: lists are read, and their records are read, approved, waived, released and recalled in any order.

    Each walk has tokens of its own, since a walk can revoke every token that it finds.
    """
    sent: list[tuple[str, int]] = []

    class Walk(document.as_state_machine()):  # type: ignore[misc]
        def setup(self) -> None:
            self.tokens = _tokens(served)

        def get_call_kwargs(self, case: Case) -> dict[str, Any]:
            return {"headers": _headers(case, self.tokens)}

        def validate_response(self, response: Any, case: Case, **options: Any) -> None:
            sent.append((case.operation.label, response.status_code))
            case.validate_response(
                response, excluded_checks=[positive_data_acceptance], headers=_headers(case, self.tokens)
            )

    run_state_machine_as_test(
        Walk,
        settings=settings(
            max_examples=10 * EXAMPLES,
            stateful_step_count=12,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    good = {label for label, status in sent if status < 300 and "{" in label}
    print(f"stateful: {len(sent)} requests, {len(good)} operations with a name in their path answered well")
    assert max(status for _, status in sent) < 500
    assert len(good) >= 3
