"""Load over HTTP: it ends as soon as the bound on its p99 is lost, and what was not answered counts as lost."""

import math
import threading
from contextlib import contextmanager
from socketserver import StreamRequestHandler, ThreadingTCPServer

from bench.service.load import Load, Sending, percentile_ms

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
_CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"


@contextmanager
def _port(answer):
    """A server of HTTP that answers each line of requests that holds a body, or with b"" never does."""

    class Handler(StreamRequestHandler):
        def handle(self):
            while self.rfile.readline().strip():
                while self.rfile.readline().strip():
                    pass
                self.rfile.read(2)
                self.wfile.write(answer)

    class Server(ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 512

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield server.server_address[1]
        server.shutdown()


def _sent(answer, **options):
    """Send a load, and return what came of it."""
    with _port(answer) as port:
        return Sending(Load("127.0.0.1", port, "/", ["{}"], **options)).result()


def test_every_request_of_an_open_loop_is_answered():
    answered = _sent(_ANSWER, rate_rps=200.0, seconds=0.3, p99_ms=10_000.0)
    assert answered
    assert all(one.status == 200 for one in answered)


def test_an_open_loop_that_has_lost_its_bound_ends():
    answered = _sent(b"", rate_rps=100.0, seconds=100.0, p99_ms=1.0)
    assert len(answered) < 1000  # of 10,000
    assert {one.status for one in answered} == {0}
    assert percentile_ms(answered, 0.5) == math.inf


def test_answers_may_come_in_chunks():
    answered = _sent(_CHUNKS, rate_rps=0.0, seconds=0.2, workers=2, keep_bodies=True)
    assert {(one.status, one.answer) for one in answered} == {(200, "{}")}


def test_a_closed_loop_asks_again_and_again():
    answered = _sent(_ANSWER, rate_rps=0.0, seconds=0.2, workers=2)
    assert len(answered) > 2
