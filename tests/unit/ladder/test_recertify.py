"""What `recertify` refuses; what it does is in test_compress.py, on a release that the ladder made."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from octavo.errors import InputError
from octavo.ladder.recertify import _check_same_task
from octavo.tasks.classify import Classify


def test_a_teacher_of_another_task_is_described_in_words():
    release = SimpleNamespace(task=Classify(("music", "order")))
    with pytest.raises(InputError) as raised:
        _check_same_task(Path("other"), Classify(("a", "b")), release)
    assert "classify ('labels a, b'), and the release for classify ('labels music, order')" in str(raised.value)
