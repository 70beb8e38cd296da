"""An hour of everything at once, after which the service has to be as large as it was: `-m slow`.

`OCTAVO_SOAK_S` says how long, in seconds.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import numpy as np
import pytest

from tests.e2e.serving import PATIENCE_S, Load, Server, add_version, exchange, flip_a_byte, resident_bytes, serve, store
from tests.unit.conftest import make_certificate, publish_tiny, tiny_models

__all__ = ["make_certificate", "publish_tiny", "serve", "store", "tiny_models"]  # fixtures that are used here

SECONDS = float(os.environ.get("OCTAVO_SOAK_S", "3600"))
WARM_SHARE = 1 / 4
MOST_GROWTH_BYTES = 16 << 20


def odd(server: Server) -> Iterator[int]:
    """Ask over a connection for each request, large, misshapen, and cut off in the middle: statuses."""
    rng = random.Random(0)
    for number in itertools.count():
        time.sleep(0.02)
        texts = [" ".join(f"w{rng.randrange(1000)}" for _ in range(rng.randrange(40))) for _ in range(number % 20)]
        body = json.dumps({"model": rng.choice(("tiny", "tiny", "none")), "input": texts})
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)) as connection:
            connection.request("POST", "/v1/classify", body, {"content-type": "application/json"})
            if number % 5:  # else it is closed before the answer
                yield connection.getresponse().status
        if number % 50 == 0:
            exchange(server, b"\xff junk\r\n\r\n", silent_s=1)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_an_hour_of_load_swaps_and_junk_leaves_memory_as_it_was(serve, store):
    corrupt = add_version(store, "2")
    flip_a_byte(store / "tiny" / corrupt / "model.onnx")
    server = serve(store, "--cache", "1000")
    sizes: list[tuple[float, int]] = []
    started_s = time.monotonic()
    answers = swaps = 0
    while (passed_s := time.monotonic() - started_s) < SECONDS:
        # A load keeps its answers: of a minute, not of an hour.
        with Load(server.asked) as load, Load(partial(odd, server), clients=1) as junk:
            until_s = min(SECONDS, passed_s + 60)
            for version in itertools.cycle(("1", "2", corrupt)):
                if (now_s := time.monotonic() - started_s) >= until_s:
                    break
                assert server.promote(version)[0] == (409 if version == corrupt else 200)
                server.admin("GET", "/metrics")
                swaps += 1
                sizes.append((now_s, resident_bytes(server.process)))
                time.sleep(2)
        assert load.faults == junk.faults == []
        assert {status for _, status, _ in load.answers} == {200}
        assert set(junk.answers) <= {200, 400, 404, 429}
        answers += len(load.answers)
    warm = np.array([size for size in sizes if size[0] > WARM_SHARE * SECONDS], float)
    slope = float(np.polyfit(warm[:, 0], warm[:, 1], 1)[0])  # bytes per second
    print(f"{answers} answers, {swaps} swaps; {warm[0, 1] / 2**20:.0f} MB, {3600 * slope / 2**20:+.2f} MB per hour")
    assert slope * (1 - WARM_SHARE) * SECONDS < MOST_GROWTH_BYTES
