"""Pins: a release is freed once, and only when nobody is in it."""

import threading

from tests.unit.serve.fake_releases import engine_of, fake_release


def test_pins_are_counted():
    release = fake_release()
    assert [release.pin(), release.pin(), release.in_flight] == [True, True, 2]
    release.unpin()
    assert release.in_flight == 1


def test_a_retired_release_takes_nobody_and_is_freed():
    release = fake_release()
    assert release.retire(0)
    assert not release.pin()
    assert release.in_flight == 0
    assert engine_of(release).closed


def test_it_is_freed_when_the_last_one_leaves():
    release = fake_release()
    release.pin()
    drained = []
    thread = threading.Thread(target=lambda: drained.append(release.retire(10)))
    thread.start()
    while release.pin():  # until it takes nobody
        release.unpin()
    assert not engine_of(release).closed
    release.unpin()
    thread.join(10)
    assert drained == [True]
    assert engine_of(release).closed


def test_who_never_leaves_is_not_waited_for():
    release = fake_release()
    release.pin()
    assert not release.retire(0.001)
    assert engine_of(release).closed


def test_pins_of_many_threads_balance():
    release = fake_release()

    def come_and_go():
        for _ in range(500):
            if release.pin():
                release.unpin()

    running = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert release.in_flight == 0
    assert release.retire(0)


def test_the_time_since_it_serves_is_noted():
    release = fake_release()
    before = release.info
    release.serves_from_now()
    assert release.info.since != before.since
    assert release.info.version == before.version
