"""The pytest plugin: the fixture `harness`, the options of the servers to run on, and the flow under a test that failed.

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
    """The fixture `harness`: makes a `Harness`, on the servers that the options name."""

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
    group = parser.getgroup("headrace", "Headrace: what the fixture `harness` runs on")
    for name, what, example in (
        (_STORAGE, "a database", "postgresql+asyncpg://postgres@localhost/postgres"),
        (_BROKER, "a broker", "amqp://guest:guest@localhost"),
    ):
        text = (
            f"URL of {what} on whose server each harness gets a place of its own, such as {example}"
        )
        group.addoption(f"--{name.replace('_', '-')}", metavar="URL", default=None, help=text)
        parser.addini(name, text)


@pytest.fixture
def harness(pytestconfig: pytest.Config) -> MakeHarness:
    """Makes a `headrace.testing.Harness` of an app, on the servers that the options name."""
    from headrace.testing.harness import Harness

    def make(
        app: Headrace,
        overrides: Mapping[type, object] | None = None,
        *,
        storage: str | None = None,
        broker: str | None = None,
        bypass: bool = False,
    ) -> Harness:
        return Harness(
            app,
            overrides,
            storage=storage or _chosen(pytestconfig, _STORAGE),
            broker=broker or _chosen(pytestconfig, _BROKER),
            bypass=bypass,
        )

    return make


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
