"""The page at `/docs`: the OpenAPI document for people, in one file without scripts and without other hosts."""

from __future__ import annotations

import json
from html import escape
from itertools import groupby

from octavo.certify.report_page import page_html, section
from octavo.serve.http.errors import Dialect
from octavo.types import Json

_ABOUT = {
    Dialect.OCTAVO: "Octavo's own API: an address per task, one input or many, and answers that name their version.",
    Dialect.OPENAI: "For OpenAI's clients, and those that speak like them.",
    Dialect.TEI: "For clients of Text Embeddings Inference.",
    Dialect.COHERE: "For the rerank clients of Cohere and Jina.",
    Dialect.INFERENCE: "For Triton's and KServe's clients; over gRPC too, where the server was started with it.",
}


def docs_page(document: Json) -> str:
    """Return the page of an OpenAPI document, as HTML."""
    operations = [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    operations.sort(key=lambda one: [*Dialect].index(one[2]["tags"][0]))  # stable: in order within each dialect
    sections = [
        section(escape(tag), escape(_ABOUT[Dialect(tag)]), *(_operation(*one, document) for one in members))
        for tag, members in groupby(operations, key=lambda one: one[2]["tags"][0])
    ]
    return page_html(
        title="Octavo: the API",
        kind="API",
        subject=f"version {document['info']['version']}",
        headline=f'<h1>What this server answers</h1><p class="lead">{escape(document["info"]["description"])}</p>',
        sections=sections,
        colophon='The same for programs: <a href="/openapi.json">/openapi.json</a>, OpenAPI 3.1.',
    )


def _operation(path: str, method: str, operation: Json, document: Json) -> str:
    parts = [f"<h3><code>{method.upper()} {escape(path)}</code></h3>", f"<p>{escape(operation['summary'])}.</p>"]
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is not None:
        parts.append(_fields(content["schema"], document))
        if "example" in content:
            body = json.dumps(content["example"]).replace("'", "'\\''")
            command = f"curl localhost:8000{path} -H 'Content-Type: application/json' \\\n  -d '{body}'"
            parts.append(f"<pre><code>{escape(command)}</code></pre>")
    refused = ", ".join(code for code in operation["responses"] if code != "200")
    return "".join([*parts, f"<p>Refused with: {refused}.</p>"])


def _fields(schema: Json, document: Json) -> str:
    """Return a table of a body's fields."""
    schema = _resolved(schema, document)
    needed = schema.get("required", [])
    rows = [
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(_kind(field, document))}</td>"
        f"<td>{'yes' if name in needed else ''}</td><td>{escape(_description(field))}</td></tr>"
        for name, field in schema.get("properties", {}).items()
    ]
    head = "<tr><th>field</th><th>type</th><th>needed</th><th></th></tr>"
    about = escape(schema.get("description", ""))
    return f'<p>{about}</p><div class="scroll"><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'


def _kind(schema: Json, document: Json) -> str:
    """Say a type in a few words, such as `text or list of {query, documents}`."""
    schema = _resolved(schema, document)
    if "properties" in schema:
        return "{" + ", ".join(schema["properties"]) + "}"
    if "enum" in schema:
        return " or ".join(f'"{value}"' for value in schema["enum"])
    if "anyOf" in schema:
        kinds = [_kind(one, document) for one in schema["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if schema.get("type") == "array":
        inner = _kind(schema["items"], document) if "items" in schema else "values"
        return f"list of ({inner})" if " or " in inner else f"list of {inner}"
    kind = str(schema.get("type", "value"))
    return {"string": "text", "integer": "whole number", "boolean": "true or false"}.get(kind, kind)


def _description(schema: Json) -> str:
    said = [schema.get("description", ""), *(one.get("description", "") for one in schema.get("anyOf", []))]
    return next((one for one in said if one), "")


def _resolved(schema: Json, document: Json) -> Json:
    if "$ref" not in schema:
        return schema
    resolved: Json = document["components"]["schemas"][str(schema["$ref"]).rpartition("/")[2]]
    return resolved
