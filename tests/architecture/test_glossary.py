"""docs/glossary.md fixes the words of the field: one word an idea, each with its source."""

from __future__ import annotations

import re

from tests.architecture.source import ROOT

WORDS = (
    *("Command", "Query", "DomainEvent", "NotificationEvent", "Handler", "Mediator", "Dispatcher"),
    *("Emitter", "Envelope", "UnitOfWork", "Outbox", "Relay", "Broker", "Subscription", "Consumer"),
    *("Inbox", "Dead letter", "Redrive", "Saga", "Lease"),
    *("send", "emit", "publish", "ack", "nack"),
)


def entries() -> list[tuple[str, str]]:
    """Word and text of each third-level heading."""
    page = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    parts = re.split(r"^#{2,3} +(.+?) *$", page, flags=re.MULTILINE)
    levels = re.findall(r"^(#{2,3}) ", page, flags=re.MULTILINE)
    headings = zip(levels, parts[1::2], parts[2::2], strict=True)
    return [(word, text.strip()) for level, word, text in headings if level == "###"]


def test_the_glossary_has_every_fixed_word_once() -> None:
    """Each fixed word has exactly one entry."""
    words = [word for word, _ in entries()]
    missing = [word for word in WORDS if word not in words]
    twice = sorted({word for word in words if words.count(word) > 1})
    assert not missing, f"docs/glossary.md: add '### ' entries for {', '.join(missing)}"
    assert not twice, f"docs/glossary.md: more than one entry for {', '.join(twice)}"


def test_every_entry_names_its_source() -> None:
    """Each entry says what the word means and which book or standard it is from."""
    faults = [word for word, text in entries() if not re.search(r"^Source: \S", text, re.MULTILINE)]
    assert not faults, f"docs/glossary.md: add a line 'Source: ...' to {', '.join(faults)}"
