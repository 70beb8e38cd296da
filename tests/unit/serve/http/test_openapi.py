"""The document: it is one, it says all that there is, and a server of it never fails whatever it is asked."""

import json
import re

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from octavo.serve.http.app import all_operations, create_app
from octavo.serve.http.openapi import openapi_document
from octavo.serve.http.settings import ApiSettings

_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
]


@pytest.fixture
def document(client):
    return client.get("/openapi.json").json()


def test_every_operation_is_in_it(document):
    written = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert written == {(operation.method, operation.path) for operation in all_operations()}
    assert len({one["operationId"] for methods in document["paths"].values() for one in methods.values()}) == len(
        written
    )


def test_every_reference_leads_somewhere(document):
    schemas = document["components"]["schemas"]
    references = re.findall(r'"\$ref": "([^"]+)"', json.dumps(document))
    assert references
    assert {reference.removeprefix("#/components/schemas/") for reference in references} == set(schemas)


def test_examples_are_answered(client):
    """With the names of models that these tests have; all four tasks have one only."""
    for operation in all_operations():
        if operation.example is not None:
            path = operation.path.replace("{model}", "intent").replace("{version}", "2")
            body = {name: value for name, value in operation.example.items() if name != "model"}
            assert client.post(path, body).status_code == 200, path


def test_keys_are_spoken_of_where_there_are_any():
    operations = all_operations()
    plain = openapi_document(operations, needs_key=False)
    assert "securitySchemes" not in plain["components"]
    assert "401" not in plain["paths"]["/v1/classify"]["post"]["responses"]
    keyed = openapi_document(operations, needs_key=True)
    assert keyed["paths"]["/v1/classify"]["post"]["security"] == [{"key": []}]
    assert "security" not in keyed["paths"]["/health"]["get"]


@pytest.mark.parametrize("mode", schemathesis.GenerationMode)
def test_nothing_that_fits_the_document_or_breaks_it_makes_the_server_fail(service, mode):
    app = create_app(service, ApiSettings(max_inputs=8))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    statuses = set()

    def ask(operation):
        @hypothesis.settings(max_examples=15, database=None, suppress_health_check=[*hypothesis.HealthCheck])
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def asked(case):
            statuses.add(case.call_and_validate(checks=_CHECKS).status_code)

        asked()

    for found in schema.get_all_operations():
        operation = found.ok()
        # What asks for nothing cannot be asked wrongly.
        if mode is schemathesis.GenerationMode.POSITIVE or "requestBody" in operation.definition.raw:
            ask(operation)
    assert statuses >= ({200, 400, 404} if mode is schemathesis.GenerationMode.POSITIVE else {400})
