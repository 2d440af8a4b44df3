"""Which events handlers were seen to raise, where they do not declare it: arrows of the flow that are learnt at run time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from headrace.bindings import Binding
from headrace.messages import Event


class Learnt:
    """The types of events that handlers were seen to raise. Grows with the number of types, never with that of events."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[tuple[type, object], dict[type, None]] = {}

    def seen(self, binding: Binding) -> Mapping[type, None]:
        """The types seen so far; it grows as more are told."""
        return self._seen.setdefault((binding.message, binding.handler), {})

    def teller(self, binding: Binding) -> Callable[[Sequence[Event]], None]:
        """What a runner calls with the events that the handler of this binding has raised."""
        seen = self._seen.setdefault((binding.message, binding.handler), {})

        def tell(events: Sequence[Event]) -> None:
            for event in events:
                if type(event) not in seen:
                    seen[type(event)] = None

        return tell

    def of(self, binding: Binding) -> tuple[type, ...]:
        """The types that the handler was seen to raise for this message, in the order first seen."""
        return tuple(self._seen.get((binding.message, binding.handler), ()))
