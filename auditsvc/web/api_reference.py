"""The API's own page, made from its OpenAPI document: works offline, loads nothing from elsewhere, needs no script.

What a reader wants to know of an OpenAPI document, in the order in which to show it.
"""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Request
from markupsafe import Markup, escape
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response

from auditsvc.errors import NotFound
from auditsvc.web import rendering
from auditsvc.web.problems import all_codes
from auditsvc.web.role_routes import RoleRoute

_TRY = {"model": "face-gender", "version": "2"}
"""Values for the command that a reader can copy."""


def groups_of(document: dict[str, Any], base: str) -> list[dict[str, Any]]:
    """Operations by tag, in the order of the document's tags; tags that no operation has are left out."""
    found: dict[str, list[dict[str, Any]]] = {tag["name"]: [] for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            found[operation["tags"][0]].append(_operation(method.upper(), path, operation, base))
    words = {tag["name"]: tag["description"] for tag in document["tags"]}
    return [
        {"name": name, "description": words[name], "operations": operations}
        for name, operations in found.items()
        if operations
    ]


def _operation(method: str, path: str, operation: dict[str, Any], base: str) -> dict[str, Any]:
    content = operation.get("requestBody", {}).get("content", {})
    shown = operation["responses"].get("200", operation["responses"].get("201", {})).get("content", {})
    example = next((item["example"] for item in shown.values() if "example" in item), None)
    return {
        "anchor": operation["operationId"],
        "method": method,
        "path": path,
        "role": operation["x-role"],
        "summary": operation["summary"],
        "description": operation.get("description", ""),
        "parameters": [_parameter(item) for item in operation.get("parameters", ())],
        "body": Markup(", ").join(_media(kind, item) for kind, item in content.items()),
        "answers": [_answer(status, item) for status, item in sorted(operation["responses"].items())],
        "example": json.dumps(example, indent=2, ensure_ascii=False) if example is not None else "",
        "curl": _curl(method, path, operation, base, tuple(content)),
    }


def _parameter(item: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": item["name"],
        "where": item["in"],
        "required": item.get("required", False),
        "takes": _plain(item["schema"]),
        "means": item.get("description") or item["schema"].get("description", ""),
    }


def _answer(status: str, item: dict[str, Any]) -> dict[str, Any]:
    shapes = Markup(", ").join(_media(kind, content) for kind, content in item.get("content", {}).items())
    return {"status": status, "words": item["description"], "shape": shapes}


def _media(kind: str, content: dict[str, Any]) -> Markup:
    shape = content.get("schema", {})
    name = takes(shape) if shape else Markup("")
    return Markup("<code>{}</code> {}").format(kind, name)


def _curl(method: str, path: str, operation: dict[str, Any], base: str, kinds: tuple[str, ...]) -> str:
    wanted = [item for item in operation.get("parameters", ()) if item.get("required")]
    query = "&".join(f"{item['name']}={_TRY.get(item['name'], '...')}" for item in wanted if item["in"] == "query")
    parts = ["curl"]
    if method != "GET":
        parts.append(f"-X {method}")
    if operation["x-role"] not in ("anyone", "reader"):
        parts.append('-H "Authorization: Bearer $TOKEN"')
    if kinds:
        parts.append(
            "--json '{...}'" if "application/json" in kinds else f'-H "Content-Type: {kinds[0]}" --data-binary @FILE'
        )
    target = f"{base}{path}" + (f"?{query}" if query else "")
    return " ".join([*parts, f"'{target}'" if "?" in target or "{" in target else target])


def takes(schema: dict[str, Any]) -> Markup:
    """A schema in a few words, with links to the shapes that it names."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return Markup('<a href="#shape-{0}">{0}</a>').format(name)
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return Markup(" or ").join(takes(item) for item in schema[key] if item.get("type") != "null")
    if schema.get("type") == "array":
        return Markup("list of {}").format(takes(schema.get("items", {})))
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return Markup("map to {}").format(takes(schema["additionalProperties"]))
    return escape(_plain(schema))


def _plain(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_plain(item) for item in schema["anyOf"] if item.get("type") != "null")
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    kind = str(schema.get("format") or schema.get("type") or "anything")
    if "pattern" in schema:
        return "sha256:..." if "sha256" in schema["pattern"] else f"{kind} {schema['pattern']}"
    low, high = schema.get("minimum"), schema.get("maximum")
    return kind + (f" {'' if low is None else low}..{'' if high is None else high}" if low is not None or high else "")


def shapes_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Every named schema with its fields."""
    return [
        {
            "name": name,
            "words": " ".join(schema.get("description", "").split("\n\n")[0].split()),
            "fields": [_field(field, item, schema.get("required", ())) for field, item in _fields(schema)],
        }
        for name, schema in sorted(document["components"]["schemas"].items())
    ]


def _fields(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return list(schema.get("properties", {}).items())


def _field(name: str, schema: dict[str, Any], required: tuple[str, ...]) -> dict[str, Any]:
    words = " ".join(schema.get("description", "").split())
    return {"name": name, "takes": takes(schema), "required": name in required, "means": words}


def roles_of(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Each role with what it may do, from the routes themselves."""
    may: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            may.setdefault(operation["x-role"], []).append(f"{method.upper()} {path}")
    may.pop("anyone", None)
    may["reader"] = ["nothing: it reads"]
    return [(role, ", ".join(paths)) for role, paths in may.items()]


router = APIRouter(route_class=RoleRoute, tags=["operation"])

_STATIC = {path.name: path for path in (rendering.HERE / "static").iterdir() if path.is_file()}
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}


@router.get("/openapi.json", summary="This API for programs", response_class=JSONResponse)
async def document(request: Request) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    found: dict[str, Any] = request.app.openapi()
    return found


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """The document as a page."""
    found = request.app.openapi()
    return rendering.page(
        request,
        "docs.html",
        "/docs",
        info=found["info"],
        openapi=found["openapi"],
        groups=groups_of(found, str(request.base_url).rstrip("/")),
        shapes=shapes_of(found),
        roles=roles_of(found),
        codes=[(code, status, words) for code, (status, words) in all_codes().items()],
    )


@router.get("/static/{name}", include_in_schema=False)
async def static(name: str) -> Response:
    """A style sheet, a script or the icon; a fixed set of files, so that no path leads anywhere else."""
    if name not in _STATIC:
        raise NotFound(f"there is no {name}")
    path = _STATIC[name]
    return FileResponse(path, media_type=_TYPES[path.suffix])
