"""The OpenAPI document: FastAPI's, with what it can't know: roles, tokens, and how errors look."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from auditsvc.web.problems import MEDIA_TYPE, Problem
from auditsvc.web.public_url import KINDS
from auditsvc.web.role_routes import OPEN

DESCRIPTION = """Deny by default: every route names the role it needs (`x-role`), and a token carries one role.
`reader` is in every role.  While the service is bound to loopback, readers on the same machine need no token.

Errors are Problem Details (RFC 9457) with a stable `code`.  Lists are paged by an opaque `cursor`.
A write with an `Idempotency-Key` can be sent again without being done twice."""

TAGS = (
    ("gate", "The question that a pipeline asks."),
    ("candidates", "Pruned models that ask for release, and what was measured of them."),
    ("decisions", "Verdicts under a policy, consent, waivers."),
    ("releases", "What was sealed, what was recalled, and how anyone checks it."),
    ("jobs", "Background work: asked for, watched, stopped, tried again."),
    ("policies", "What is demanded."),
    ("statements", "What no machine can know, said by named people."),
    ("incidents", "Serious incidents with a model, their deadlines, and who watched for any."),
    ("log", "The transparency log: checkpoints, proofs, tiles, keys."),
    ("tokens", "Who may come in."),
    ("webhooks", "Outgoing webhooks and their deliveries; the endpoint for MLflow's webhook."),
    ("operation", "Health, metrics, this document."),
)

_ERRORS = {
    "401": "No token, or not a good one.",
    "403": "The token's role may not do this.",
    "404": "Not there.",
    "429": "Too many requests; wait a moment.",
}

_LOOKED_UP = ("/v1/gate", "/v1/log/inclusion", "/v1/log/consistency")
"""Operations without a name in their path or a body that look something up all the same."""

_CONFLICTING = (
    "/v1/log/checkpoint",
    "/v1/decisions/{digest}/release",
    "/v1/jobs/{id}/cancel",
    "/v1/jobs/{id}/retry",
)


def install(app: FastAPI) -> None:
    """Let ``app.openapi()`` give the finished document, made once."""

    def document() -> dict[str, Any]:
        if not app.openapi_schema:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    made = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=DESCRIPTION,
        routes=app.router.routes,
        tags=[{"name": name, "description": words} for name, words in TAGS],
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    parts = made.setdefault("components", {})
    parts.setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
    parts["schemas"].pop("HTTPValidationError", None)
    parts["schemas"].pop("ValidationError", None)
    for kind in KINDS:
        _name_kind(parts["schemas"][kind.__name__], kind.kind)
    parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "auditsvc_..."}}
    for path, methods in made["paths"].items():
        for operation in methods.values():
            _declare_errors(path, operation)
    _link(made["paths"])
    return made


def _link(paths: dict[str, Any]) -> None:
    """From every list to what can be done with one of its records: OpenAPI links, which programs can follow."""
    for path, methods in paths.items():
        called = "id" if path == "/v1/jobs" else "digest"
        inside = [(name, found) for name, found in paths.items() if name.startswith(f"{path}/{{{called}}}")]
        if "get" not in methods or not inside:
            continue
        links = methods["get"]["responses"]["200"].setdefault("links", {})
        for _, found in inside:
            for operation in found.values():
                name = operation["operationId"]
                links[name] = {"operationId": name, "parameters": {called: f"$response.body#/items/0/{called}"}}


def _name_kind(schema: dict[str, Any], kind: str) -> None:
    """A record's canonical JSON names its kind, which is no field of the record itself."""
    schema["properties"] = {"kind": {"const": kind, "type": "string", "title": "Kind"}} | schema["properties"]
    schema["required"] = ["kind", *schema.get("required", ())]


def _declare_errors(path: str, operation: dict[str, Any]) -> None:
    """Every way in which an operation can fail, as a problem."""
    responses = operation["responses"]
    wanted = dict(_ERRORS) if operation["x-role"] not in OPEN else {}
    if operation["x-role"] == "signed":
        wanted["401"] = "Not signed with the secret that both sides know."
    if "{" not in path and path not in _LOOKED_UP and "requestBody" not in operation:
        wanted.pop("404", None)
    if "requestBody" in operation or path in _CONFLICTING:
        wanted["409"] = "The state of things forbids it; `detail` says what."
    if "422" in responses or operation["x-role"] != "anyone":
        wanted["422"] = "The request can't be used; `reasons` lists every fault."
    if "requestBody" in operation:
        wanted["400"] = "The body can't be read: not JSON, or not UTF-8."
        wanted["413"] = "The body is too large."
    wanted["503"] = "Something that is needed failed; try again."
    for status, words in wanted.items():
        content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        responses[status] = {"description": words, "content": content}
