"""Settings of consumers and limits refuse what cannot work, and say what to write."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from headrace.backoff import Backoff, Outage
from headrace.consumer.window import Window
from headrace.errors import ConfigurationError, StorageUnavailable
from headrace.limits import Limits
from headrace.subscriptions import Retry, Subscription
from headrace.telemetry import Count, LogEvent, Telemetry


@pytest.mark.parametrize(
    ("make", "tells"),
    [
        (lambda: Retry(attempts=0), "Retry(attempts=0)"),
        (lambda: Retry(initial_seconds=-1), "initial_seconds=-1"),
        (lambda: Retry(factor=0.5), "factor=0.5"),
        (lambda: Retry(max_seconds=0.1), "max_seconds=0.1"),
        (lambda: Retry(jitter=2), "jitter=2"),
        (lambda: Subscription(group=""), "group=''"),
        (lambda: Subscription(topics="orders"), "topics=('orders',)"),
        (lambda: Subscription(topics=("a", "a")), "('a', 'a')"),
        (lambda: Subscription(topics=("",)), "not empty"),
        (lambda: Subscription(concurrency=0), "concurrency=0"),
        (lambda: Subscription(timeout_seconds=0), "timeout_seconds=0"),
        (lambda: Limits(window=0), "Limits(window=0)"),
        (lambda: Limits(poll_seconds=-1), "poll_seconds=-1"),
        (lambda: Limits(lease_seconds=float("nan")), "lease_seconds=nan"),
    ],
)
def test_a_value_that_cannot_work_is_refused(make: Callable[[], object], tells: str) -> None:
    """A setting out of its range raises ConfigurationError, which shows the value."""
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert tells in str(caught.value)


def test_draining_may_take_no_time_at_all() -> None:
    """A stop without any drain is a decision that somebody may take (G10)."""
    assert Limits(drain_seconds=0).drain_seconds == 0


def test_lists_of_topics_become_tuples() -> None:
    """A subscription can be hashed however its topics were given."""
    assert hash(Subscription(topics=["a"])) == hash(Subscription(topics=("a",)))  # type: ignore[arg-type]


def test_delays_grow_to_their_bound_and_begin_anew() -> None:
    """Back-off doubles up to its longest delay and starts short after a success (G6)."""
    backoff = Backoff(max_seconds=5.0)
    delays = [backoff.next() for _ in range(2000)]
    assert 0.08 <= delays[0] <= 0.12
    assert 0.16 <= delays[1] <= 0.24
    assert max(delays) <= 6.0
    backoff.reset()
    assert backoff.next() <= 0.12


def test_an_outage_is_logged_once_for_all_its_parts(caplog: pytest.LogCaptureFixture) -> None:
    """However many parts fail, and however often, one outage is one count and one record (G13)."""
    telemetry = Telemetry("test")
    caplog.set_level("INFO", logger="headrace")
    labels = {"group": "g", "topic": "t"}
    outage = Outage("The work", Count.CONSUMER_PAUSED, telemetry, lambda _: True, labels)
    for part in ("a", "b", "a"):
        outage.failed(StorageUnavailable("away"), part)
    outage.over("a")
    assert outage.error is not None
    outage.over("b")
    outage.over("b")
    assert outage.error is None
    assert telemetry.counts[Count.CONSUMER_PAUSED] == 1
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    begun, over = (vars(record)["headrace"] for record in caplog.records)
    assert begun == {"event": LogEvent.CONSUMER_PAUSED, "app": "test", **labels}
    assert over == {"event": LogEvent.CONSUMER_RESUMED, "app": "test", **labels}


def test_an_error_that_nobody_expects_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A fault of the program is told apart from an outage (G13)."""
    outage = Outage("The work", Count.RELAY_PAUSED, Telemetry("test"), lambda _: False)
    outage.failed(ValueError("a bug"))
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.exc_info is not None


@pytest.mark.parametrize("size", [1, 3, 8, 100])
def test_a_window_is_never_exceeded(size: int) -> None:
    """The places taken never exceed the window, or one for each partition (G11)."""
    window = Window(size, dict.fromkeys(range(4), 0))
    taken = sum(window.take(partition) for partition in range(4) for _ in range(1000))
    assert taken == max(size, 4)
    assert window.for_all(range(4)) == 0


def test_each_partition_keeps_a_share_of_the_window() -> None:
    """However much one partition takes, the others can still be read (G11)."""
    window = Window(100, dict.fromkeys(range(4), 0))
    greedy = sum(window.take(0) for _ in range(1000))
    assert greedy == 100 - 3 * 12
    assert window.for_all([1]) == 12
    assert window.take(1)


def test_retry_is_what_it_says() -> None:
    """The default retries come after about 0.2, 0.6, 1.8 and 5.4 seconds, at most five minutes (G9)."""
    exact = Retry(jitter=0.0)
    assert [round(exact.delay(n), 3) for n in range(1, 5)] == [0.2, 0.6, 1.8, 5.4]
    assert exact.delay(10_000) == 300.0
    assert all(0.16 <= Retry().delay(1) <= 0.24 for _ in range(50))
