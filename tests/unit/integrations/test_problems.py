"""What errors become: by the nearest class, a status, a problem or a function; without what is inside."""

import pytest

from headrace.errors import (
    ConcurrentUnitOfWork,
    ConfigurationError,
    HandlerNotFound,
    StorageBusy,
)
from headrace.integrations.problems import OWN, UNKNOWN, Problem, problem_of


class NotThere(LookupError):
    def __init__(self, what: str) -> None:
        super().__init__(f"there is no {what}")
        self.what = what


def test_the_nearest_class_says_what_an_error_becomes() -> None:
    """A class of its own goes before its bases, and what is in no class is unknown."""
    problems = {LookupError: 404, NotThere: Problem(status=410)}
    assert problem_of(NotThere("x"), problems).status == 410
    assert problem_of(KeyError("x"), problems).status == 404
    assert problem_of(ValueError("x"), problems) is UNKNOWN


def test_a_function_may_look_at_the_error() -> None:
    """A function of the error answers a problem or a status."""

    def describe(error: NotThere) -> Problem:
        return Problem(status=404, extensions={"what": error.what})

    assert problem_of(NotThere("x"), {NotThere: describe}).extensions == {"what": "x"}
    assert problem_of(NotThere("x"), {NotThere: lambda error: 409}).status == 409


def test_the_application_goes_before_headrace() -> None:
    """Headrace's own errors have answers, which the application may replace."""
    assert problem_of(StorageBusy("x"), OWN).retry_after_seconds == 1
    assert problem_of(ConcurrentUnitOfWork("x"), OWN).status == 500
    assert problem_of(StorageBusy("x"), {**OWN, StorageBusy: 429}).status == 429


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (NotThere("order"), 404, "there is no order"),
        (NotThere("order"), 500, None),
        (HandlerNotFound("at app.py:7"), 404, None),
    ],
)
def test_an_errors_text_is_told_only_if_it_is_the_callers_to_know(
    error: Exception, status: int, detail: str | None
) -> None:
    """The text of the application's errors below 500 is the detail; Headrace's own, and 500s, stay inside."""
    body = Problem(status=status).body(error=error, instance="/x", correlation_id="c1")
    assert body.get("detail") == detail
    assert (body["type"], body["instance"], body["correlation_id"]) == ("about:blank", "/x", "c1")


def test_a_problem_has_a_title_in_any_case() -> None:
    """The title is that given, or the status in words, or a word for statuses without any."""
    titles = [
        Problem(status=404, title="No such order"),
        Problem(status=404),
        Problem(status=599),
    ]
    bodies = [p.body(error=KeyError(), instance="/", correlation_id="c") for p in titles]
    assert [body["title"] for body in bodies] == ["No such order", "Not Found", "Error"]


def test_what_is_no_problem_is_refused() -> None:
    """A status that is no error, and extensions that would hide a member, are refused when the problem is made."""
    with pytest.raises(ConfigurationError, match="from 400 to 599"):
        Problem(status=200)
    with pytest.raises(ConfigurationError, match="status are members of their own"):
        Problem(status=404, extensions={"status": 1})
