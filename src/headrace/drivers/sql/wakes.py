"""Who is woken when a topic of this process's storage has new messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable


class Wakes:
    """The listeners of one storage, shared by every broker that lives in it."""

    def __init__(self) -> None:
        self._listeners: dict[str, list[Callable[[], None]]] = {}

    def listen(self, topic: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` after a publish to the topic, until the returned function is called."""
        ended = False

        # A function of its own for each call, so that the same `wake` may listen twice and end once.
        def listener() -> None:
            if not ended:
                wake()

        def end() -> None:
            nonlocal ended
            if not ended:
                ended = True
                self._listeners[topic].remove(listener)
                if not self._listeners[topic]:
                    del self._listeners[topic]

        self._listeners.setdefault(topic, []).append(listener)
        return end

    def wake(self, topics: Iterable[str]) -> None:
        """Call the listeners of these topics soon, on the running loop."""
        loop = asyncio.get_running_loop()
        for topic in topics:
            for listener in self._listeners.get(topic, ()):
                loop.call_soon(listener)
