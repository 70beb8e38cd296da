import asyncio
import socket

import pytest

from octavo.errors import InputError
from octavo.serve import listening
from octavo.serve.listening import HttpServer, closing, listen


async def _app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-length", b"2"), (b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def talk():
    """Start a server for an app, let a coroutine speak to its port, and return what that one returns."""

    def run(speak, app=_app):
        async def whole():
            with listen("127.0.0.1", 0, "--port") as port:
                server = HttpServer(app, drain_s=5)
                serving = asyncio.create_task(server.serve([port]))
                try:
                    return await asyncio.wait_for(speak(port.getsockname()[1], server), 20)
                finally:
                    server.should_exit = True
                    await serving

        return asyncio.run(whole())

    return run


_GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


async def _ask(reader, writer, request=_GET):
    writer.write(request)
    return await reader.readuntil(b"ok")


def test_a_socket_listens_on_any_free_port():
    with listen("127.0.0.1", 0, "--port") as port, socket.create_connection(port.getsockname()):
        pass
    with listen("localhost", 0, "--port"):
        pass


@pytest.mark.parametrize(
    ("host", "words"),
    [("no such host", "not known here"), ("192.0.2.1", "not an address of this machine")],
)
def test_a_host_that_cannot_be_had_is_refused(host, words):
    with pytest.raises(InputError, match=words) as caught:
        listen(host, 0, "--port")
    assert "--host" in str(caught.value)


def test_a_port_in_use_is_refused_with_the_option_to_give():
    with listen("127.0.0.1", 0, "--port") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"Port {port} of 127.0.0.1 is in use.*--admin-port"):
            listen("127.0.0.1", port, "--admin-port")


def test_a_connection_is_kept_for_several_requests(talk):
    async def speak(port, server):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answers = [await _ask(reader, writer) for _ in range(3)]
        writer.close()
        return answers

    assert all(b"200 OK" in answer and b"connection: close" not in answer for answer in talk(speak))


def test_headers_that_do_not_come_end_the_connection(talk, monkeypatch):
    monkeypatch.setattr(listening, "_HEADERS_S", 0.05)

    async def speak(port, server):
        # One that says nothing, one that stops in its first request, one that stops in its second.
        connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        connections[1][1].write(b"GET / HT")
        await _ask(*connections[2])
        connections[2][1].write(b"GET / HTTP/1.1\r\nx-slow: ")
        ends = [await reader.read() for reader, _ in connections]
        for _, writer in connections:
            writer.close()
        return ends

    assert talk(speak) == [b"", b"", b""]


def test_a_slow_body_and_an_idle_connection_are_not_slow_headers(talk, monkeypatch):
    monkeypatch.setattr(listening, "_HEADERS_S", 0.05)

    async def speak(port, server):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nab")
        await asyncio.sleep(0.2)
        first = await _ask(reader, writer, b"cd")
        await asyncio.sleep(0.2)
        second = await _ask(reader, writer)
        writer.close()
        return first, second

    assert all(b"200 OK" in answer for answer in talk(speak))


def test_headers_without_end_are_not_kept(talk):
    async def speak(port, server):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n")
        try:
            for _ in range(1000):
                writer.write(b"x-a: " + b"y" * 4096 + b"\r\n")
                await writer.drain()
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()

    assert talk(speak) == b""


def test_while_it_stops_each_answer_closes_its_connection(talk):
    stopping = []

    async def speak(port, server):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        before = await _ask(reader, writer)
        stopping.append(True)
        after = await _ask(reader, writer)
        rest = await reader.read()
        writer.close()
        return before, after, rest

    before, after, rest = talk(speak, closing(_app, lambda: bool(stopping)))
    assert b"connection: close" not in before
    assert b"connection: close" in after
    assert rest == b""


def test_what_is_being_answered_is_answered_before_the_end(talk):
    async def slow(scope, receive, send):
        await asyncio.sleep(0.3)
        await _app(scope, receive, send)

    async def speak(port, server):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(_GET)
        await asyncio.sleep(0.05)
        server.should_exit = True
        answer = await reader.read()
        writer.close()
        return answer

    assert talk(speak, slow).endswith(b"ok")
