"""The OpenAPI 3.1 document: made of the operations and their types, so that it cannot say what the code does not do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

import octavo
from octavo.serve.http import refusals
from octavo.serve.http.endpoint import Operation
from octavo.serve.http.errors import ERROR_TYPES
from octavo.serve.refusals import (
    BadRequest,
    DeadlineExceeded,
    Overloaded,
    Refusal,
    TooLarge,
    Unavailable,
    UnknownModel,
)
from octavo.types import Json

_REFERENCE = "#/components/schemas/{name}"
_TIMEOUT = "The client's deadline: an answer that comes later is not computed. Whole milliseconds from 1 on."
_ABOUT = (
    "Releases of Octavo, each certified to be no worse than the model that it replaces. Every answer says which "
    "version gave it and where the time went: in its body, or in the headers X-Octavo-Model, X-Octavo-Version and "
    "Server-Timing."
)


def openapi_document(operations: Sequence[Operation], *, needs_key: bool) -> Json:
    """Return the document.

    Args:
        operations: all that clients can ask for.
        needs_key: whether those that are not open ask for a key.
    """
    types = [one for operation in operations for one in _types(operation) if one is not None]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    schema_of = {id(one): schema for one, schema in zip(types, schemas, strict=True)}
    paths: dict[str, Json] = {}
    for operation in operations:
        written = _operation(operation, schema_of, needs_key=needs_key)
        paths.setdefault(operation.path, {})[operation.method.lower()] = written
    key = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}} if needs_key else {}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Octavo", "version": octavo.__version__, "description": _ABOUT},
        "paths": paths,
        "components": {"schemas": components, **key},
    }


def _types(operation: Operation) -> tuple[Any, Any, Any]:
    return _body(operation), operation.answer, ERROR_TYPES[operation.dialect]


def _body(operation: Operation) -> Any:
    return operation.documented_body if operation.body is bytes else operation.body


def _operation(operation: Operation, schema_of: dict[int, Any], *, needs_key: bool) -> Json:
    content: Json = {}
    if operation.answer is not None:
        content = {"content": _json(schema_of[id(operation.answer)])}
    error = _json(schema_of[id(ERROR_TYPES[operation.dialect])])
    written: Json = {
        "operationId": _identifier(operation),
        "summary": operation.summary,
        "tags": [str(operation.dialect)],
        "responses": {
            "200": {"description": "The answer.", **content},
            **{str(refusal.status): _refused(refusal, error) for refusal in _refusals(operation, needs_key=needs_key)},
        },
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    if (body := _body(operation)) is not None:
        parameters.append(_timeout_header())
        written["requestBody"] = {"required": True, "content": _json(schema_of[id(body)], operation.example)}
    if parameters:
        written["parameters"] = parameters
    if needs_key and not operation.is_open:
        written["security"] = [{"key": []}]
    return written


def _json(schema: Json, example: Any = None) -> Json:
    return {"application/json": {"schema": schema} | ({} if example is None else {"example": example})}


def _refusals(operation: Operation, *, needs_key: bool) -> list[type[Refusal]]:
    found: list[type[Refusal]] = [BadRequest, UnknownModel, refusals.MethodNotAllowed, Unavailable]
    if needs_key and not operation.is_open:
        found.append(refusals.Unauthorized)
    if operation.body is not None:
        found += [TooLarge, refusals.SlowBody, refusals.UnsupportedMedia, Overloaded, DeadlineExceeded]
    return sorted(found, key=lambda refusal: refusal.status)


def _refused(refusal: type[Refusal], error: Json) -> Json:
    says: Json = {"description": (refusal.__doc__ or "").partition("\n")[0], "content": error}
    if refusal is Overloaded:
        says["headers"] = {
            name: {"schema": {"type": "integer"}, "description": f"When there should be room, in {unit}."}
            for name, unit in (("Retry-After", "seconds"), ("X-Retry-After-Ms", "milliseconds"))
        }
    return says


def _timeout_header() -> Json:
    schema = {"type": "integer", "minimum": 1, "maximum": 999_999_999}
    return {"name": "X-Request-Timeout-Ms", "in": "header", "schema": schema, "description": _TIMEOUT}


def _identifier(operation: Operation) -> str:
    return re.sub(r"\W+", "_", f"{operation.method.lower()}{operation.path}").strip("_")
