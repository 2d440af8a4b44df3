"""Who listens to what, and what happens when handling fails: the settings of a consumer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, cast

from headrace.backoff import exponential
from headrace.errors import ConfigurationError


def qualified_name(kind: type[BaseException]) -> str:
    """The name under which storage keeps a class of errors."""
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _with_subclasses(kind: type[Exception]) -> Iterator[type[Exception]]:
    yield kind
    for one in kind.__subclasses__():
        yield from _with_subclasses(one)


def _check(where: str, name: str, value: object, fine: bool, rule: str) -> None:
    if not fine:
        raise ConfigurationError(f"{where}({name}={value!r}): it must be {rule}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often a failing message is tried, and how long it waits in between (G9).

    With the defaults the retries come after 0.2, 0.6, 1.8 and 5.4 seconds. Only errors of handlers count as attempts.

    Args:
        attempts: tries in all before the message is a dead letter. Default 5: passes over a hiccup of some seconds;
            what fails longer is for people to see.
        initial_seconds: the wait after the first failure. Default 0.2.
        factor: by which each wait is longer than the one before. Default 3.0.
        max_seconds: the longest wait, before jitter. Default 300.0, five minutes.
        jitter: the part by which a wait varies, from 0.0 to 1.0. Default 0.2, so that messages that failed together do
            not come back together.
        by_error: other policies for some errors: `{CardDeclined: Retry.NEVER, TimeoutError: Retry(attempts=20)}`. The most
            exact class of the error counts. Attempts are those of the message, whatever error each ended with. Default: none.

    Raises:
        ConfigurationError: a value is out of its range, a key of `by_error` is no class of exceptions.
    """

    NEVER: ClassVar[Retry]
    """One attempt and no other: the message is a dead letter at once. For errors that time does not mend."""

    attempts: int = 5
    initial_seconds: float = 0.2
    factor: float = 3.0
    max_seconds: float = 300.0
    jitter: float = 0.2
    # No part of the hash, because a mapping has none.
    by_error: Mapping[type[Exception], Retry] = field(
        default_factory=dict[type[Exception], "Retry"], hash=False
    )

    def __post_init__(self) -> None:
        _check("Retry", "attempts", self.attempts, self.attempts >= 1, "at least 1")
        _check(
            "Retry",
            "initial_seconds",
            self.initial_seconds,
            self.initial_seconds >= 0,
            "at least 0",
        )
        _check("Retry", "factor", self.factor, self.factor >= 1, "at least 1")
        _check(
            "Retry",
            "max_seconds",
            self.max_seconds,
            self.max_seconds >= self.initial_seconds,
            f"at least initial_seconds, {self.initial_seconds!r}",
        )
        _check("Retry", "jitter", self.jitter, 0 <= self.jitter <= 1, "from 0.0 to 1.0")
        for kind, policy in cast("Mapping[object, object]", self.by_error).items():
            fine = isinstance(kind, type) and issubclass(kind, Exception)
            _check("Retry", "by_error", self.by_error, fine, "from classes of exceptions")
            fine = isinstance(policy, Retry) and not policy.by_error
            rule = "to policies without a by_error of their own, such as Retry.NEVER"
            _check("Retry", "by_error", self.by_error, fine, rule)
        object.__setattr__(self, "by_error", dict(self.by_error))

    def of(self, error: BaseException) -> Retry:
        """The policy for an error: that of its most exact class in `by_error`, else this one."""
        return self._of_class(type(error))

    def of_named(self, error: str | None) -> Retry:
        """The policy for an error of which only the qualified name of its class is known, as storage keeps it.

        A class that this process has not imported counts as one without a policy of its own.
        """
        for kind in self.by_error if error is not None else ():
            for one in _with_subclasses(kind):
                if qualified_name(one) == error:
                    return self._of_class(one)
        return self

    def _of_class(self, kind: type[BaseException]) -> Retry:
        if self.by_error:
            for one in kind.__mro__:
                if one in self.by_error:
                    return self.by_error[one]
        return self

    def delay(self, attempt: int) -> float:
        """The seconds to wait after the attempt of this number (from 1) has failed."""
        return exponential(
            attempt,
            initial_seconds=self.initial_seconds,
            factor=self.factor,
            max_seconds=self.max_seconds,
            jitter=self.jitter,
        )


Retry.NEVER = Retry(attempts=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """One group's work on some topics.

    Each group sees every message; the processes of one group share the work, a partition at a time (G8).

    Args:
        group: the group's name. Default None: the app's name, so that the processes of one app share its messages.
        topics: the topics to read. Default (): those of all notifications that have handlers in the app.
        concurrency: handlers that run at once, in different partitions. Default 8: as many as a topic has partitions.
        ordered: True (default): while a message waits for its retry or is a dead letter, later messages of its key wait
            behind it. False: they pass it.
        retry: see `Retry`.
        timeout_seconds: how long the handlers of one message may take together; longer counts as a failed attempt.
            Default 300.0, five minutes: a handler that hangs must not hold its partition for ever.
        batch: messages of one partition that may share a transaction. Default 1: each message has its own, so a slow
            handler holds nobody else's effects, or locks, back. More saves commits: on SQLite, with a handler of one
            statement, 10 gave 2.5 times and 100 gave 3.8 times the messages a second (measured, CPython 3.11). What it
            costs: the effects of up to `batch` messages become visible together, and if one of them fails all are rolled
            back and run again one by one. So handlers must have no effects outside of the database, as always; in an app
            without storage, where effects are not rolled back, leave it at 1.

    Raises:
        ConfigurationError: a value is out of its range.
    """

    group: str | None = None
    topics: tuple[str, ...] = ()
    concurrency: int = 8
    ordered: bool = True
    retry: Retry = field(default_factory=Retry)
    timeout_seconds: float = 300.0
    batch: int = 1

    def __post_init__(self) -> None:
        # A string is a sequence of strings: without this check topics="orders" would read six topics.
        topics: object = self.topics
        if isinstance(topics, str):
            raise ConfigurationError(
                f"Subscription(topics={self.topics!r}): a string is not a sequence of topics; "
                f"write topics=({self.topics!r},)."
            )
        object.__setattr__(self, "topics", tuple(self.topics))
        _check(
            "Subscription", "group", self.group, self.group != "", "a name, or None for the app's"
        )
        _check("Subscription", "topics", self.topics, all(self.topics), "names that are not empty")
        _check(
            "Subscription",
            "topics",
            self.topics,
            len(set(self.topics)) == len(self.topics),
            "names that stand there once",
        )
        _check("Subscription", "concurrency", self.concurrency, self.concurrency >= 1, "at least 1")
        _check(
            "Subscription",
            "timeout_seconds",
            self.timeout_seconds,
            self.timeout_seconds > 0,
            "above 0",
        )
        _check("Subscription", "batch", self.batch, self.batch >= 1, "at least 1")
