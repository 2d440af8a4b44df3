"""Whether the app could read a body that somebody wrote by hand for a dead letter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.assembly.groups import types_of
from headrace.envelope import Message
from headrace.errors import DecodeError, MessageTooLarge

if TYPE_CHECKING:
    from headrace.assembly.parts import Parts
    from headrace.dead_letters import DeadLetter


class EditCheck:
    """Refuses bodies that would fail again for what they are.

    Args:
        parts: of the app, which knows the classes of its messages.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def check(self, letter: DeadLetter, data: bytes) -> None:
        """Do nothing if the app could read these bytes, or does not know the type at all.

        Raises:
            DecodeError: the type is known, and the bytes do not fit it.
            MessageTooLarge: they are more than the app sends.
        """
        most = self._parts.settings.limits.body_bytes
        if len(data) > most:
            raise MessageTooLarge(
                f"dead letter {letter.position} was not changed: the new body has {len(data)} bytes, and the limit is {most}. "
                "Raise Limits(body_bytes=...) if the broker accepts more."
            )
        kind = self._kind_of(letter)
        if kind is None:
            return
        try:
            self._parts.mediator.emitter.codec.decode(data, kind)
        except DecodeError as error:
            raise DecodeError(
                f"dead letter {letter.position} was not changed, for the new body cannot be read as "
                f"{letter.envelope.type!r}: {error.args[0]}"
            ) from error

    def _kind_of(self, letter: DeadLetter) -> type[object] | None:
        """The class that the message is read as, where it stands."""
        parts, wanted = self._parts, letter.envelope.type
        if letter.group is not None:
            for group in parts.groups:
                if group.name == letter.group and letter.topic in group.subscription.topics:
                    return group.types.get(wanted)
        deliveries = parts.deliveries
        if deliveries is not None and letter.queue == deliveries.queue:
            message = Message(letter.topic, letter.key, letter.envelope, letter.data)
            return deliveries.kind_of(message)
        return types_of(parts.bindings()).get(wanted)
