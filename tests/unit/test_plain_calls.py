"""Calls without a detour behave as the calls that were written."""

import inspect
from collections.abc import Callable

import pytest

from headrace import Headrace, RequestMediator
from headrace.plain_calls import own_code, plain


def test_a_plain_function_takes_its_keywords_and_their_defaults() -> None:
    """What was keyword-only keeps its name and its default, and a missing argument is still an error."""

    @plain
    def join(first: str, second: str = "b", *, third: str = "c", fourth: str = "d") -> str:
        """Put together."""
        return first + second + third + fourth

    assert join("a") == "abcd"
    assert join("a", third="x") == "abxd"
    assert join("a", fourth="y", second="z") == "azcy"
    assert join.__doc__ == "Put together."
    with pytest.raises(TypeError):
        join()  # type: ignore[call-arg]


def test_a_plain_function_keeps_what_it_encloses() -> None:
    """A function that uses names around it still does."""
    seen: list[int] = []

    @plain
    def note(number: int, *, twice: bool = False) -> None:
        seen.extend([number] * (2 if twice else 1))

    note(1)
    note(2, twice=True)
    assert seen == [1, 2, 2]


@pytest.mark.parametrize("send", [Headrace.send, RequestMediator.send])
def test_send_is_called_without_a_detour(send: object) -> None:
    """Both sends have no keyword-only parameters at run time, which would cost each send the slower way of calling."""
    kinds = {one.kind for one in inspect.signature(send).parameters.values()}  # type: ignore[arg-type]
    assert kinds == {inspect.Parameter.POSITIONAL_OR_KEYWORD}


def test_a_function_with_own_code_does_what_it_did() -> None:
    """The copy calls what the closure calls, and shares no code with its like."""

    def around(word: str) -> Callable[[str], str]:
        @own_code
        def call(text: str, end: str = "!") -> str:
            return word + text + end

        return call

    one, two = around("a"), around("b")
    assert (one("x"), two("x", "?")) == ("ax!", "bx?")
    assert one.__code__ is not two.__code__
