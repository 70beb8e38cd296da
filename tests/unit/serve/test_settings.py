"""Settings that cannot be meant are refused by name."""

import math
from pathlib import Path

import pytest

from octavo.errors import InputError
from octavo.serve.settings import ServeSettings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("workers", 0),
        ("max_batch_tokens", 0),
        ("max_queue_ms", math.nan),
        ("max_inputs", -1),
        ("batch_wait_ms", -0.1),
        ("batch_wait_ms", math.nan),
        ("cache_entries", -1),
        ("port", 65_536),
        ("grpc_port", -1),
        ("batch_wait_ms", 300),
    ],
)
def test_nonsense_is_refused_by_name(name, value):
    with pytest.raises(InputError, match=name):
        ServeSettings(Path("store"), **{name: value})


def test_the_defaults_listen_to_this_machine_alone():
    settings = ServeSettings(Path("store"))
    assert settings.host == "127.0.0.1"
    assert settings.cache_entries == settings.batch_wait_ms == 0
