"""Policies for failing messages: of the subscription, and of single errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from headrace.errors import ConfigurationError
from headrace.storage import State, Stored, group_queue
from headrace.subscriptions import Retry, Subscription, qualified_name
from headrace.telemetry import Count
from tests.unit.flow import SOON, Setting, message, until

QUEUE = group_queue("g", "t")


class Refused(Exception):
    pass


class CardRefused(Refused):
    pass


class Slow(TimeoutError):
    pass


PATIENT = Retry(attempts=6, initial_seconds=0.01, factor=1.0, jitter=0.0)
POLICIES = replace(SOON, by_error={Refused: Retry.NEVER, TimeoutError: PATIENT})


@pytest.fixture
async def one() -> AsyncIterator[Setting]:
    async with Setting() as setting:
        yield setting


async def dead_after(one: Setting, retry: Retry, *errors: Exception) -> Stored:
    """The dead letter of a message whose attempts end with these errors; the last one for all further attempts."""
    left = list(errors)

    async def fail(_: int) -> None:
        raise left.pop(0) if len(left) > 1 else left[0]

    one.handlers.script = fail
    await one.broker.publish([message(1)])
    await one.consumer(retry=retry).start()
    await until(lambda: bool(one.storage.rows(QUEUE, State.DEAD)))
    (dead,) = one.storage.rows(QUEUE)
    assert dead.attempts == len(one.handlers.begun)
    return dead


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (ValueError(), SOON.attempts),
        (Refused(), 1),
        (CardRefused(), 1),
        (TimeoutError(), 6),
        (Slow(), 6),
    ],
)
async def test_each_error_has_its_policy(one: Setting, error: Exception, attempts: int) -> None:
    """An error is retried as its class, or the nearest base of it, says; others as the subscription says (G9)."""
    dead = await dead_after(one, POLICIES, error)
    assert dead.attempts == attempts
    assert one.telemetry.counts[Count.RETRIED] == attempts - 1


async def test_attempts_are_those_of_the_message(one: Setting) -> None:
    """Whatever the earlier errors were, all attempts count against the policy of the last one."""
    dead = await dead_after(one, POLICIES, *[Slow()] * 4, ValueError())
    assert dead.attempts == 5


async def test_an_error_that_is_never_retried_ends_the_attempts(one: Setting) -> None:
    """A message that was retried for one error is a dead letter at once when the other comes."""
    dead = await dead_after(one, POLICIES, ValueError(), CardRefused())
    assert dead.attempts == 2
    assert dead.failure is not None
    assert dead.failure.error == qualified_name(CardRefused)


async def test_a_handler_that_takes_too_long_is_a_time_out(one: Setting) -> None:
    """The policy of TimeoutError is that of `timeout_seconds` too."""

    async def never(_: int) -> None:
        await until(lambda: False)

    one.handlers.script = never
    await one.broker.publish([message(1)])
    retry = replace(PATIENT, by_error={TimeoutError: Retry.NEVER})
    await one.consumer(retry=retry, timeout_seconds=0.02).start()
    await until(lambda: bool(one.storage.rows(QUEUE, State.DEAD)))
    assert len(one.handlers.begun) == 1


async def test_a_batch_keeps_to_the_policies(one: Setting) -> None:
    """A message that failed in a batch and then alone has had one attempt."""

    async def fail(n: int) -> None:
        if n == 1:
            raise Refused

    one.handlers.script = fail
    await one.broker.publish([message(n) for n in range(3)])
    await one.consumer(retry=POLICIES, batch=3).start()
    await until(lambda: bool(one.storage.rows(QUEUE, State.DEAD)))
    (dead,) = one.storage.rows(QUEUE, State.DEAD)
    assert dead.attempts == 1
    assert one.handlers.done == [0]


def test_the_most_exact_class_wins() -> None:
    """The order in which policies are given does not matter."""
    often, once = Retry(attempts=9), Retry.NEVER
    for given in ({Exception: often, Refused: once}, {Refused: once, Exception: often}):
        retry = Retry(by_error=given)
        assert retry.of(CardRefused()) == once
        assert retry.of(ValueError()) == often
    own = Retry(by_error={Refused: once, CardRefused: often})
    assert own.of(CardRefused()) == often
    assert own.of(Refused()) == once
    assert own.of(ValueError()) is own


def test_a_stored_error_has_the_policy_of_its_class() -> None:
    """A message that is taken over with its last error has as many attempts left as that error allows."""
    assert POLICIES.of_named(qualified_name(Slow)) is PATIENT
    assert POLICIES.of_named("TimeoutError") is PATIENT
    assert POLICIES.of_named(qualified_name(CardRefused)) is Retry.NEVER
    assert POLICIES.of_named("ValueError") is POLICIES
    assert POLICIES.of_named("elsewhere.Unknown") is POLICIES
    assert POLICIES.of_named(None) is POLICIES


async def test_a_message_in_patient_retry_is_taken_over_in_peace() -> None:
    """More attempts than the subscription has are no sign of a process that died, if the error allows them (G9)."""
    async with Setting() as one:
        failing = True

        async def fail(_: int) -> None:
            if failing:
                raise Slow

        one.handlers.script = fail
        await one.broker.publish([message(1)])
        retry = replace(SOON, by_error={TimeoutError: replace(PATIENT, attempts=100_000)})
        first = one.consumer(retry=retry)
        await first.start()
        await until(lambda: len(one.handlers.begun) > SOON.attempts)
        await first.stop()
        failing = False
        await one.consumer(owner="two", retry=retry).start()
        await until(lambda: one.handlers.done == [1])
        assert one.telemetry.counts[Count.DEAD] == 0


@pytest.mark.parametrize(
    "by_error",
    [
        {"ValueError": Retry()},
        {int: Retry()},
        {KeyboardInterrupt: Retry()},
        {ValueError: None},
        {ValueError: Retry(by_error={KeyError: Retry.NEVER})},
    ],
)
def test_policies_that_cannot_work_are_refused(by_error: dict[type[Exception], Retry]) -> None:
    """Keys are classes of exceptions, values are policies without further ones."""
    with pytest.raises(ConfigurationError, match="by_error"):
        Retry(by_error=by_error)


def test_policies_are_copied_and_leave_subscriptions_hashable() -> None:
    """A dictionary that is changed later changes nothing."""
    given: dict[type[Exception], Retry] = {ValueError: Retry.NEVER}
    retry = Retry(by_error=given)
    given.clear()
    assert retry.of(ValueError()) is Retry.NEVER
    assert hash(Subscription(retry=retry)) == hash(Subscription(retry=replace(retry)))
