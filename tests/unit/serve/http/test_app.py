import asyncio
from dataclasses import replace

import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from octavo.serve.http.app import create_app
from octavo.serve.http.endpoint import Endpoint, Operation
from octavo.serve.http.exchange import json_answer
from octavo.serve.http.settings import ApiSettings
from octavo.serve.refusals import Overloaded
from tests.unit.serve.http.conftest import Client


@pytest.mark.parametrize(
    "path",
    ["/", "/v1", "/v1/classify/", "/v1/Classify", "/v2/models", "/v2/models//infer", "/x" * 5000, "/%00", "/%ff"],
)
def test_where_nothing_is_the_way_to_the_documentation_is_shown(client, path):
    for method in ("GET", "POST"):
        answer = client.request(method, path)
        assert answer.status_code == 404
        assert answer.json()["error"]["reason"] == "unknown_path"
        assert "/docs" in answer.json()["error"]["message"]


def test_addresses_with_parts_that_vary(client):
    assert client.get("/v1/models/match").json()["id"] == "match"
    assert client.get("/v2/models/match/versions/2").json()["name"] == "match"
    for name in ("%00", "a%2Fb", "..", "x" * 300):
        assert client.get(f"/v1/models/{name}").status_code == 404


def test_other_rooms_add_routes(service):
    async def plain(request):
        return PlainTextResponse("ours")

    async def refuses(request):
        raise Overloaded("full", 2.0)

    async def handle(call, body):
        return json_answer({"models": len(call.service.models())})

    operation = Operation(method="GET", path="/v1/search", handle=handle, summary="Search", answer=dict[str, int])
    endpoint = Endpoint(operation, service, ApiSettings())
    posted = Endpoint(replace(operation, method="POST", body=list[str]), service, ApiSettings())
    routes = [Route("/metrics", plain), Route("/full", refuses)]
    routes += [Route("/v1/search", endpoint), Route("/v1/search", posted)]
    client = Client(create_app(service, extra_routes=routes))
    assert client.get("/metrics").text == "ours"
    assert client.get("/v1/search").json() == client.post("/v1/search", ["a"]).json() == {"models": 4}
    assert client.request("PUT", "/v1/search").status_code == 405
    assert (client.get("/full").status_code, client.get("/full").headers["retry-after"]) == (429, "2")
    answer = client.post("/metrics")
    assert (answer.status_code, sorted(answer.headers["allow"].split(", "))) == (405, ["GET", "HEAD"])
    assert answer.json()["error"]["message"] == "Method Not Allowed"
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths["/v1/search"]) == {"get", "post"}
    assert "/metrics" not in paths


def test_other_protocols_than_http_are_left_to_starlette(service):
    sent = []

    async def receive():
        return {"type": "lifespan.startup"} if not sent else {"type": "lifespan.shutdown"}

    async def send(message):
        sent.append(message["type"])

    asyncio.run(create_app(service)({"type": "lifespan"}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
