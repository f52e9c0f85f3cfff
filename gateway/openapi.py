"""The OpenAPI 3.1 document, made of the table of routes and of the types that bodies are decoded into and answers encoded from."""

import re
from collections.abc import Iterable
from typing import Any, get_args

import msgspec
from msgspec import Struct

from tillstream.gateway.problems import PROBLEM_JSON, Problem
from tillstream.gateway.routes import Parameter, Route

VERSION = "1"
"""Of the interface: the `v1` in the paths."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"
REFERENCE = "#/components/schemas/{name}"

TYPES = {str: "string", int: "integer", bool: "boolean"}

DESCRIPTION = (
    "Real-time loyalty at the till. Money is integers of minor units, quantities integers of thousandths, points integers; times carry a "
    "UTC offset. A body that is an event may leave out `specversion`, `id`, `source` and `time`; unknown fields are kept. Errors are "
    "problem details (RFC 9457) with a `code` and, where a field is wrong, its `path`. A 503 says that nothing was lost: send the same "
    "again."
)

WORDS = {200: "Done.", 202: "Kept; not decided yet. `Location`, where it is there, says where to ask.", 503: "Not now."}

SCHEMES = {"key": {"type": "http", "scheme": "bearer", "description": "A key, `ts_<id>_<secret>`; or a signature by one."}}

SECURED: dict[str, Any] = {"security": [{"key": []}]}

IN_PATH = re.compile(r"\{(\w+)\}")


def document(routes: Iterable[Route], *, keys: bool) -> dict[str, Any]:
    """The document, as JSON has it; `keys`: whether callers need one."""
    routes = list(routes)
    types = {kind for route in routes for kind in (route.takes, *route.answers.values()) if is_type(kind)}
    members = {part for kind in types for part in (get_args(kind) or (kind,))} | {Problem}
    _, schemas = msgspec.json.schema_components(sorted(members, key=lambda kind: kind.__name__), ref_template=REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = operation(route) | (SECURED if keys and route.scope else {})
    whole = {
        "openapi": "3.1.0",
        "info": {"title": "tillstream", "version": VERSION, "description": DESCRIPTION},
        "jsonSchemaDialect": DIALECT,
        "paths": paths,
        "components": {"schemas": schemas} | ({"securitySchemes": SCHEMES} if keys else {}),
    }
    copied: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(whole))
    return copied


def is_type(kind: Any) -> bool:
    """Whether it is the type of a JSON body; a content type stands for itself."""
    return kind is not None and not isinstance(kind, str)


def operation(route: Route) -> dict[str, Any]:
    """One route's page."""
    page: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "description": (route.handler.__doc__ or "").strip().partition("\n")[0],
        "parameters": [*map(in_path, IN_PATH.findall(route.path)), *map(parameter, route.parameters)],
        "responses": responses(route),
    }
    if route.scope is not None:
        page["x-scope"] = route.scope
    if route.takes is not None:
        page["requestBody"] = {"required": needs_body(route.takes), "content": {"application/json": {"schema": reference(route.takes)}}}
    return page


def needs_body(kind: Any) -> bool:
    """Whether something has to be said; a body of which all may be left out may be left out itself."""
    return any(field.required for part in get_args(kind) or (kind,) for field in msgspec.structs.fields(part))


def in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def parameter(said: Parameter) -> dict[str, Any]:
    schema = {"type": TYPES[said.kind]}
    return {"name": said.name, "in": said.place, "required": said.required, "description": said.summary, "schema": schema}


def responses(route: Route) -> dict[str, Any]:
    """By status, and `default`, which is a problem."""
    found: dict[str, Any] = {}
    for status, kind in sorted(route.answers.items()):
        content = {"application/json": {"schema": reference(kind)}} if is_type(kind) else {kind: {"schema": {"type": "string"}}}
        content |= {other: {"schema": {"type": "string"}} for other in route.also}
        found[str(status)] = {"description": WORDS[status], "content": content}
    found["default"] = {"description": "What is wrong.", "content": {PROBLEM_JSON: {"schema": reference(Problem)}}}
    return found


def reference(kind: Any) -> dict[str, Any]:
    """Where the schema of a body stands; of several types, told apart by `type`, each."""
    parts: tuple[type[Struct], ...] = get_args(kind) or (kind,)
    if len(parts) == 1:
        return {"$ref": REFERENCE.format(name=parts[0].__name__)}
    tags = {str(part.__struct_config__.tag): REFERENCE.format(name=part.__name__) for part in parts}
    return {
        "oneOf": [{"$ref": place} for place in tags.values()],
        "discriminator": {"propertyName": "type", "mapping": tags},
    }
