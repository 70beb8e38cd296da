"""How many cores a process may use, and who gets them."""

import gc
import os
import subprocess
import sys

import pytest

from octavo.serve.cores import plan_cores, prepare_process


def test_each_core_has_a_worker_unless_fewer_are_asked_for():
    assert plan_cores().workers == plan_cores().cores
    assert plan_cores(1).workers == 1
    assert plan_cores(1).engine_threads == 1
    assert plan_cores(1).line().startswith("1 of")


@pytest.fixture(autouse=True)
def _as_it_was():
    """Leave the interpreter as it was found."""
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    yield
    sys.setswitchinterval(interval)
    gc.set_threshold(*threshold)
    gc.unfreeze()


def test_a_process_that_serves_has_no_pools_unless_the_user_wants_them(monkeypatch):
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    prepare_process()
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    prepare_process()
    assert os.environ["TOKENIZERS_PARALLELISM"] == "true"


def test_turns_at_the_interpreter_are_short(monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    prepare_process()
    assert sys.getswitchinterval() < 0.001


def test_garbage_is_searched_for_seldom():
    gc.set_threshold(700, 10, 10)
    prepare_process()
    assert gc.get_threshold()[0] >= 10_000


def test_what_a_service_has_when_it_is_settled_is_not_collected_again():
    code = (
        "import gc; from octavo.serve.cores import settle_process; kept = [[] for _ in range(1000)]; settle_process();"
        "assert gc.get_freeze_count() > 1000 and len(gc.get_objects()) < 1000, gc.get_freeze_count()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_at_its_end_a_process_collects_what_was_set_aside():
    code = (
        "import atexit, gc; from octavo.serve.cores import settle_process;"
        "atexit.register(lambda: print(gc.get_freeze_count())); settle_process(); assert gc.get_freeze_count()"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ended.stdout == "0\n"
