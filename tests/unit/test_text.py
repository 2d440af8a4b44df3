"""Text that is kept for people, whatever is in it."""

from __future__ import annotations

import pytest

from headrace.text import keepable, said_by


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("plain", "plain"),
        ("Zoë 😀 \n", "Zoë 😀 \n"),
        ("a\x00b", "a\\x00b"),
        ("a\ud800b\x00", "a\\ud800b\\x00"),
    ],
)
def test_what_no_database_keeps_is_written_as_an_escape(text: str, kept: str) -> None:
    """PostgreSQL refuses NUL, and UTF-8 has no lone surrogates; all other text stays as it is."""
    assert keepable(text) == kept


def test_an_error_whose_text_cannot_be_made_says_so() -> None:
    """The name of the type is told beside it, so there is something to look for."""

    class OddError(Exception):
        def __str__(self) -> str:
            raise KeyError("text")

    assert said_by(OddError()) == "<str() of it raised KeyError>"
    assert said_by(ValueError("a\x00b")) == "a\\x00b"
