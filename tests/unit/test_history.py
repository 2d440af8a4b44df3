"""The history checker finds each kind of broken promise, and nothing in a history that kept them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from headrace.testing.history import Fact, Flaw, History, check

A1, A2, A3 = (Fact(f"a{n}", "a", n) for n in (1, 2, 3))
B1, B2 = (Fact(f"b{n}", "b", n) for n in (1, 2))
GOOD = History(
    committed=(A1, B1, A2, B2, A3),
    published=(A1, A2, B1, B2, A3),
    effects=(B1, A1, A2, A3, B2),
    acknowledged=("a1", "a2", "b1"),
    refused=("a9",),
)


def flaws(history: History) -> set[tuple[Flaw, str]]:
    return {(finding.flaw, finding.id) for finding in check(history)}


def test_a_good_history_has_no_flaw() -> None:
    """Facts that were committed, published and done once, in order per key, are no finding, whatever the order of keys."""
    assert check(GOOD) == []


def test_repeats_in_the_log_are_allowed() -> None:
    """A relay may publish messages again, also earlier ones after later ones: only first publications are ordered (G6)."""
    assert check(replace(GOOD, published=(A1, A2, B1, A1, A2, A3, B2, A3, A1))) == []


def test_an_unanswered_command_may_have_been_committed() -> None:
    """A row whose command was neither acknowledged nor refused is fine: its caller died with it."""
    assert check(replace(GOOD, acknowledged=(), refused=())) == []


@pytest.mark.parametrize(
    ("doctor", "found"),
    [
        (lambda h: replace(h, effects=(B1, A1, A2, B2)), {(Flaw.LOST, "a3")}),
        (lambda h: replace(h, effects=(B1, A1, A2, A3)), {(Flaw.LOST, "b2")}),
        (lambda h: replace(h, effects=(*h.effects, B2)), {(Flaw.TWICE, "b2")}),
        (
            lambda h: replace(h, effects=(*h.effects, A1)),
            {(Flaw.TWICE, "a1"), (Flaw.OUT_OF_TURN, "a1")},
        ),
        (lambda h: replace(h, effects=(B1, A1, A3, A2, B2)), {(Flaw.OUT_OF_TURN, "a2")}),
        (
            lambda h: replace(h, effects=(*h.effects, Fact("a4", "a", 4))),
            {(Flaw.PHANTOM, "a4")},
        ),
        (
            lambda h: replace(h, published=(*h.published, Fact("a4", "a", 4))),
            {(Flaw.PHANTOM, "a4")},
        ),
        (lambda h: replace(h, published=(A1, A2, B1, B2)), {(Flaw.UNPUBLISHED, "a3")}),
        (lambda h: replace(h, published=(A2, A1, A2, B1, B2, A3)), {(Flaw.MISORDERED, "a1")}),
        (lambda h: replace(h, acknowledged=("a1", "a4")), {(Flaw.FORGOTTEN, "a4")}),
        (lambda h: replace(h, refused=("a2",)), {(Flaw.REVIVED, "a2")}),
        (
            lambda h: replace(h, effects=(B1, A1, A2, Fact("a3", "a", 4), B2)),
            {(Flaw.CHANGED, "a3")},
        ),
        (
            lambda h: replace(h, published=(A1, A2, B1, B2, Fact("a3", "b", 3))),
            {(Flaw.CHANGED, "a3")},
        ),
        (
            lambda h: History(
                committed=(A1, replace(A2, number=1)),
                published=(A1, replace(A2, number=1)),
                effects=(A1, replace(A2, number=1)),
            ),
            {(Flaw.RACED, "a2")},
        ),
        (
            lambda h: History(committed=(A1, A3), published=(A1, A3), effects=(A1, A3)),
            {(Flaw.RACED, "a3")},
        ),
    ],
    ids=[
        *("lost", "lost-last", "twice", "twice-late", "out-of-turn", "phantom-effect"),
        *("phantom-message", "unpublished", "misordered", "forgotten", "revived", "changed-number"),
        *("changed-key", "same-number", "vanished-row"),
    ],
)
def test_each_broken_promise_is_found(
    doctor: Callable[[History], History], found: set[tuple[Flaw, str]]
) -> None:
    """A history in which one promise was broken has that finding, about that fact, and no other (G4 to G8)."""
    assert flaws(doctor(GOOD)) == found


def test_a_finding_says_what_was_seen() -> None:
    """A finding reads as a sentence with the fact, its key and its number."""
    (finding,) = check(replace(GOOD, effects=(B1, A1, A2, A3)))
    assert str(finding) == "lost: b2: 2 of key 'b' has no effect"
