"""Who is to be woken when there may be something new to read: what every driver's `listen` needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=Hashable)


class Listeners(Generic[Name]):
    """Functions to call, by name: a topic, a queue, or a group and a topic. For one event loop at a time."""

    def __init__(self) -> None:
        self._listeners: dict[Name, list[Callable[[], None]]] = {}

    def __contains__(self, name: Name) -> bool:
        return name in self._listeners

    def __bool__(self) -> bool:
        return bool(self._listeners)

    def names(self) -> Sequence[Name]:
        """What somebody listens to."""
        return tuple(self._listeners)

    def add(self, name: Name, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` from now on. Returns a function that ends it, which may be called again."""
        ended = False

        # A function of its own for each call, so that the same `wake` may listen twice and end once.
        def listener() -> None:
            if not ended:
                wake()

        def end() -> None:
            nonlocal ended
            if ended:
                return
            ended = True
            listeners = self._listeners.get(name, [])
            if listener in listeners:
                listeners.remove(listener)
                if not listeners:
                    del self._listeners[name]

        self._listeners.setdefault(name, []).append(listener)
        return end

    def wake(self, names: Iterable[Name]) -> None:
        """Call the listeners of these names soon, on the running loop."""
        loop = asyncio.get_running_loop()
        for name in names:
            for listener in self._listeners.get(name, ()):
                loop.call_soon(listener)

    def wake_all(self) -> None:
        """Call every listener soon."""
        self.wake(self.names())

    def clear(self) -> None:
        """Forget all listeners: none is called any more."""
        self._listeners.clear()
