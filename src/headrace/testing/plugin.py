"""The pytest plugin: the options of the servers to run on, the fixture `harness`, and the flow under a test that failed.

pytest finds it by its entry point, so it is there as soon as headrace and pytest are installed. What it needs is imported when
a test uses it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from headrace.app import Headrace
    from headrace.testing.harness import Harness

_STORAGE = "headrace_storage"
_BROKER = "headrace_broker"


class MakeHarness(Protocol):
    """The fixture `harness`: makes a `Harness`."""

    def __call__(
        self,
        app: Headrace,
        overrides: Mapping[type, object] | None = None,
        *,
        storage: str | None = None,
        broker: str | None = None,
        bypass: bool = False,
    ) -> Harness:
        """See `Harness`. `storage` and `broker` of a call win over the options."""
        ...


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options, and the same in the configuration file."""
    group = parser.getgroup("headrace", "Headrace: what harnesses run on")
    for name, what, example in (
        (_STORAGE, "a database", "postgresql+asyncpg://postgres@localhost/postgres"),
        (_BROKER, "a broker", "amqp://guest:guest@localhost"),
    ):
        text = (
            f"URL of {what} on whose server each harness gets a place of its own, such as {example}"
        )
        group.addoption(f"--{name.replace('_', '-')}", metavar="URL", default=None, help=text)
        parser.addini(name, text)


def pytest_configure(config: pytest.Config) -> None:
    """Let every harness run on the servers that the options name, whoever makes it."""
    storage, broker = _chosen(config, _STORAGE), _chosen(config, _BROKER)
    if storage or broker:
        from headrace.testing.private import chosen

        chosen.storage, chosen.broker = storage, broker


def pytest_report_header(config: pytest.Config) -> str | None:
    """Which servers, in the first lines that pytest prints."""
    given = {"storage": _chosen(config, _STORAGE), "broker": _chosen(config, _BROKER)}
    if not any(given.values()):
        return None
    from headrace.urls import hidden

    return "headrace: harnesses run on " + ", ".join(
        f"{what} {hidden(url)}" for what, url in given.items() if url
    )


def pytest_unconfigure() -> None:
    """What runs in this process after pytest is not concerned."""
    private = sys.modules.get("headrace.testing.private")
    if private is not None:
        private.chosen.storage = private.chosen.broker = None


@pytest.fixture
def harness() -> MakeHarness:
    """Makes a `headrace.testing.Harness` of an app: the class itself, for tests that would rather not import it."""
    from headrace.testing.harness import Harness

    return Harness


def _chosen(config: pytest.Config, name: str) -> str | None:
    given: str | None = config.getoption(name) or config.getini(name)
    return given or None


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """What an answer of a harness has and what it lacks, in place of two long lists."""
    answers = sys.modules.get("headrace.testing.answers")
    if answers is None or op != "==":
        return None
    if isinstance(right, answers.Answer) and not isinstance(left, answers.Answer):
        left, right = right, left
    if not isinstance(left, answers.Answer) or not isinstance(right, list | tuple):
        return None
    return left.difference(right)  # type: ignore[no-any-return]  # the module is not imported here


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the flow of each harness that the failed test had at hand under its traceback."""
    report = yield
    found = sys.modules.get("headrace.testing.harness")
    if found is None or call.excinfo is None or not report.failed:
        return report
    notes: list[str] = getattr(call.excinfo.value, "__notes__", [])
    if not any(note.startswith(found.FLOW_NOTE) for note in notes):
        is_harness: Callable[[object], bool] = lambda one: isinstance(one, found.Harness)  # noqa: E731
        for one in _at_hand(call.excinfo.value, is_harness):
            if one.recorded:
                report.sections.append(_section(one))
    return report


def _at_hand(error: BaseException, wanted: Callable[[object], bool]) -> list[Any]:
    """What the functions between the test and its error had in their variables, each once."""
    met: dict[int, object] = {}
    trace = error.__traceback__
    while trace is not None:
        for value in trace.tb_frame.f_locals.values():
            if wanted(value):
                met[id(value)] = value
        trace = trace.tb_next
    return list(met.values())


def _section(harness: Harness) -> tuple[str, str]:
    try:
        return f"Headrace flow of {harness.name}", harness.flow()
    except Exception as error:  # a report must not fail
        return "Headrace flow", f"could not be drawn: {type(error).__name__}: {error}"
