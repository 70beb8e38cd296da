"""Bodies that are too large, too slow, in pieces or broken off, over a real connection."""

import asyncio
import json
import socket
from collections.abc import Iterator

import httpx
import pytest

from octavo.serve.http.body import ClientGone, read_body
from octavo.serve.http.refusals import SlowBody
from octavo.serve.http.settings import ApiSettings
from octavo.serve.refusals import TooLarge

PATH = "/v1/classify"
BODY = b'{"input": "turn it off"}'


def read(*messages, limit=100, headers=None, timeout_s=1.0):
    """Read a body that comes in some messages; then nothing comes."""
    left = list(messages)

    async def receive():
        if not left:
            await asyncio.sleep(60)
        return left.pop(0)

    body = asyncio.run(read_body(receive, headers or {}, ApiSettings(max_body_bytes=limit, body_timeout_s=timeout_s)))
    assert not left, "it was read further than it is long"
    return body


def piece(content, more=True):
    return {"type": "http.request", "body": content, "more_body": more}


def test_pieces_are_put_together():
    assert read(piece(b"ab"), piece(b""), piece(b"cd", more=False)) == b"abcd"
    assert read(piece(b"abcd", more=False)) == b"abcd"
    assert read(piece(b"x" * 100, more=False)) == b"x" * 100


def test_a_body_that_is_said_to_be_too_large_is_not_read():
    with pytest.raises(TooLarge, match="100 bytes"):
        read(headers={b"content-length": b"101"})
    with pytest.raises(TooLarge):
        read(headers={b"content-length": b"9" * 30})


def test_a_body_that_turns_out_too_large_is_read_no_further():
    with pytest.raises(TooLarge):
        read(piece(b"x" * 101, more=False))
    with pytest.raises(TooLarge):
        read(piece(b"x" * 60), piece(b"x" * 60))


def test_a_body_that_does_not_come_in_time():
    with pytest.raises(SlowBody, match=r"within 0\.01 seconds"):
        read(piece(b"x"), timeout_s=0.01)


def test_a_client_that_leaves_in_the_middle():
    with pytest.raises(ClientGone):
        read(piece(b"x"), {"type": "http.disconnect"})


def _send_raw(url: str, head: str, pieces: Iterator[bytes]) -> bytes:
    """Send a request piece by piece until the server has answered and closes; return what it said."""
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port), timeout=10) as connection:
        connection.sendall(f"{head}\r\nHost: octavo\r\nContent-Type: application/json\r\n".encode())
        try:
            for one in pieces:
                connection.sendall(one)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has closed, as it should; its answer is still to be read
        said = b""
        while True:
            try:
                received = connection.recv(65_536)
            except ConnectionResetError:
                break
            if not received:
                break
            said += received
        return said


def _mebibytes(count: int, *, chunked: bool) -> Iterator[bytes]:
    content = b"x" * (1 << 20)
    if chunked:
        yield b"Transfer-Encoding: chunked\r\n\r\n"
        content = b"100000\r\n" + content + b"\r\n"
    else:
        yield f"Content-Length: {count << 20}\r\n\r\n".encode()
    for _ in range(count):
        yield content
    if chunked:
        yield b"0\r\n\r\n"


@pytest.mark.parametrize("chunked", [False, True])
def test_200_megabytes_are_answered_and_not_read(url, service, chunked):
    said = _send_raw(url, f"POST {PATH} HTTP/1.1", _mebibytes(200, chunked=chunked))
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in head.lower()
    assert json.loads(body)["error"]["reason"] == "too_large"
    assert not service.asked


def test_who_asks_first_whether_to_send_is_told_at_once(url):
    pieces = [b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n"]
    said = _send_raw(url, f"POST {PATH} HTTP/1.1", iter(pieces))
    assert said.startswith(b"HTTP/1.1 413")


def test_clients_read_the_answer_although_they_were_sending(url):
    answer = httpx.post(url + PATH, content=b"x" * (64 << 20), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


def test_a_slow_body_is_given_up(serve):
    with serve(body_timeout_s=0.05) as url:
        said = _send_raw(url, f"POST {PATH} HTTP/1.1", iter([b"Content-Length: 20\r\n\r\n", b'{"inp']))
    assert said.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in said.lower()


def test_a_body_in_chunks_is_read(url):
    chunks = [b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n" % len(BODY), BODY, b"\r\n0\r\n\r\n"]
    said = _send_raw(url, f"POST {PATH} HTTP/1.0", iter(chunks))
    assert said.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "junk",
    [
        [b"Transfer-Encoding: chunked\r\n\r\n", b"zz\r\nnot a chunk\r\n"],
        [b"Content-Length: -1\r\n\r\n"],
        [b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", b"12345"],
        [b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", b"12345"],
    ],
)
def test_junk_in_place_of_a_body_gets_400_or_nothing_and_the_server_lives(url, junk):
    said = _send_raw(url, f"POST {PATH} HTTP/1.1", iter(junk))
    assert said == b"" or said.startswith(b"HTTP/1.1 400")
    assert httpx.post(url + PATH, content=BODY).status_code == 200


def test_a_connection_is_kept_after_a_refusal_whose_body_was_read(url):
    with httpx.Client(base_url=url) as client:
        refused = client.post(PATH, json={"input": 1})
        assert (refused.status_code, refused.headers.get("connection")) == (400, None)
        assert client.post(PATH, content=BODY).status_code == 200
