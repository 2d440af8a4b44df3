"""From an id or a key to its explanation."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from headrace.explaining.facts import Facts
from headrace.explaining.keys import lives_of_key
from headrace.explaining.life import Explanation
from headrace.explaining.messages import lives_of_message

if TYPE_CHECKING:
    from headrace.app import Headrace


async def explain(app: Headrace, asked: str, *, topic: str | None = None) -> Explanation:
    """Find out what became of a message or a key: what caused it, where it is, who has it, and what it waits for.

    A diagnostic, and safe at any time: it reads what is committed, in bounded parts, and holds nothing up. Expect a second
    for some hundred thousand stored messages. The app's storage has to be connected, and its broker if it is to be asked;
    the app itself need not run.

    Args:
        app: the app, running or opened.
        asked: the id of a message, or a key. An id that is known anywhere comes first.
        topic: look at this topic alone; default None: at all of them.

    Raises:
        ConfigurationError: the app has no storage, so it remembers nothing.
        StorageUnavailable: the database cannot be reached. A broker that is away is a note in the answer.
    """
    facts = Facts(app)
    messages = await lives_of_message(facts, asked, topic)
    keys = () if messages else await lives_of_key(facts, asked, topic)
    return Explanation(
        asked=asked,
        app=app.name,
        at=time.time(),
        messages=messages,
        keys=keys,
        notes=tuple(facts.notes),
    )
