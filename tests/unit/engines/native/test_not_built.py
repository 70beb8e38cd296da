import pytest

from octavo.engines.native.extension import instruction_sets
from octavo.errors import EngineError


def test_without_the_extension_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr("octavo.engines.native.available", lambda: False)
    with pytest.raises(EngineError, match=r"not built.*C\+\+ compiler.*openvino"):
        instruction_sets()
