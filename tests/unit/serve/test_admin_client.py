import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from octavo.errors import EngineError, InputError, ReleaseError
from octavo.serve.admin_client import change, status_of
from octavo.serve.running import Running


@contextmanager
def _answering(status, body):
    """A server that gives one answer to everything, and notes what it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            asked.append((self.command, self.path, self.headers["authorization"], content))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815 - so it is called by the library

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Running(7, "store", "127.0.0.1", 8000, "0.0.0.0", server.server_port, "secret", "2026"), asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_change_is_asked_for_with_the_key():
    with _answering(200, b'{"new": "2"}') as (running, asked):
        assert change(running, "in/tents", "promote", {"version": "2"}) == {"new": "2"}
    assert asked == [("POST", "/admin/models/in%2Ftents/promote", "Bearer secret", b'{"version":"2"}')]


@pytest.mark.parametrize(
    ("kind", "raised"),
    [
        ("ReleaseError", ReleaseError),
        ("EngineError", EngineError),
        ("InputError", InputError),
        ("UnknownModel", ReleaseError),
        ("SystemExit", ReleaseError),
    ],
)
def test_a_refusal_is_raised_here_as_it_was_there(kind, raised):
    body = f'{{"error": {{"kind": "{kind}", "message": "the reason"}}}}'.encode()
    with _answering(409, body) as (running, _), pytest.raises(raised, match=r"^the reason$"):
        change(running, "intents", "rollback")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": "no"}'])
def test_an_answer_of_another_form_is_said_to_be_one(body):
    with _answering(502, body) as (running, _), pytest.raises(ReleaseError, match=r"process 7.*answered 502"):
        status_of(running)


def test_a_service_that_is_gone_does_not_answer():
    with _answering(200, b"") as (running, _):
        pass
    with pytest.raises(ReleaseError, match="does not answer"):
        status_of(running)
