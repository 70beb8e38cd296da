import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from octavo.serve.cross_origin import allowing_page


async def _answer(request: Request) -> Response:
    return PlainTextResponse("", 401)


APP = allowing_page(Starlette(routes=[Route("/admin/status", _answer, methods=["GET", "POST"])]), 8000)


def ask(method: str, origin: str, host: str) -> httpx.Response:
    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(APP), base_url="http://admin") as client:
            return await client.request(method, "/admin/status", headers={"origin": origin, "host": host})

    return asyncio.run(send())


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8001"),
        ("http://localhost:8000", "localhost:8001"),
        ("https://search.example:8000", "search.example:8001"),
        ("http://[::1]:8000", "[::1]:8001"),
        ("HTTP://LocalHost:8000", "localhost:8001"),
    ],
)
def test_the_page_may_read_answers_refusals_among_them(origin: str, host: str) -> None:
    response = ask("GET", origin, host)
    assert response.status_code == 401
    assert response.headers["access-control-allow-origin"] == origin
    assert response.headers["vary"] == "origin"


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:8002", "localhost:8001"),
        ("http://evil.example:8000", "localhost:8001"),
        ("http://localhost:8000.evil.example", "localhost:8001"),
        ("null", "localhost:8001"),
        ("", "localhost:8001"),
        ("http://:8000", ":8001"),
    ],
)
def test_no_other_page_may(origin: str, host: str) -> None:
    assert "access-control-allow-origin" not in ask("GET", origin, host).headers
    assert "access-control-allow-origin" not in ask("OPTIONS", origin, host).headers


def test_a_browser_that_asks_first_learns_what_it_may_send() -> None:
    response = ask("OPTIONS", "http://localhost:8000", "localhost:8001")
    assert response.status_code == 204
    assert response.headers["access-control-allow-headers"] == "authorization, content-type"
    assert "POST" in response.headers["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in response.headers
