"""Ids and times."""

import os
import threading
import time
import uuid
from datetime import UTC, datetime

import pytest

from headrace import ids
from headrace.ids import new_id, now


def test_an_id_is_a_uuid_of_version_7_with_the_time() -> None:
    """Version, variant and the milliseconds stand where RFC 9562 has them."""
    before = time.time_ns() // 1_000_000
    made = uuid.UUID(new_id())
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert before <= made.int >> 80 <= before + 60_000
    assert str(made) == str(made).lower()


def test_ids_grow() -> None:
    """Thousands of ids of a few milliseconds are in order as text and all different."""
    made = [new_id() for _ in range(5000)]
    assert made == sorted(set(made))


def test_ids_grow_when_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is set back does not make an earlier id."""
    first = new_id()
    monkeypatch.setattr("headrace.ids.time.time_ns", lambda: 0)
    assert new_id() > first


def test_a_full_millisecond_goes_over_into_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the random part would overflow, the next millisecond is taken early."""
    source = ids._Ids()
    monkeypatch.setattr("headrace.ids.time.time_ns", lambda: 5_000_000)
    first = source.next()
    source._tail = (1 << 74) - 1
    second = source.next()
    assert second > first
    assert (first >> 80, second >> 80) == (5, 6)


def test_threads_never_get_the_same_id() -> None:
    """Ids made by threads at once are all different."""
    made: list[str] = []

    def make() -> None:
        made.extend([new_id() for _ in range(500)])

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 4000


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_draws_its_own() -> None:
    """A child never repeats what its parent makes: it forgets the random numbers drawn before."""
    new_id()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, new_id()[-12:].encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 12).decode()
    os.close(reading)
    os.close(writing)
    assert theirs not in {new_id()[-12:] for _ in range(1000)}


def test_the_time_is_rfc_3339_in_utc() -> None:
    """Microseconds are always there, so that times sort as text."""
    text = now()
    assert text.endswith("Z")
    assert len(text) == 27
    assert abs((datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()) < 60
