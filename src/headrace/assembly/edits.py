"""Whether the app could read a body that somebody wrote by hand for a dead letter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.assembly.groups import types_of
from headrace.envelope import Message
from headrace.errors import DecodeError, MessageTooLarge

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headrace.assembly.deliveries import Deliveries
    from headrace.assembly.groups import Group
    from headrace.bindings import Binding
    from headrace.codec import Codec
    from headrace.dead_letters import DeadLetter


class EditCheck:
    """Refuses bodies that would fail again for what they are.

    Args:
        codec: reads bodies.
        body_bytes: the most that the app sends.
        bindings: of the app, which tell the classes of its messages.
        groups: what is consumed, by whom.
        deliveries: after-commit handlers of an app with storage, or None.
    """

    def __init__(
        self,
        codec: Codec,
        body_bytes: int,
        bindings: Iterable[Binding],
        groups: Sequence[Group],
        deliveries: Deliveries | None,
    ) -> None:
        self._codec = codec
        self._body_bytes = body_bytes
        self._bindings = bindings
        self._groups = groups
        self._deliveries = deliveries

    def check(self, letter: DeadLetter, data: bytes) -> None:
        """Do nothing if the app could read these bytes, or does not know the type at all.

        Raises:
            DecodeError: the type is known, and the bytes do not fit it.
            MessageTooLarge: they are more than the app sends.
        """
        most = self._body_bytes
        if len(data) > most:
            raise MessageTooLarge(
                f"dead letter {letter.position} was not changed: the new body has {len(data)} bytes, and the limit is {most}. "
                "Raise Limits(body_bytes=...) if the broker accepts more."
            )
        kind = self._kind_of(letter)
        if kind is None:
            return
        try:
            self._codec.decode(data, kind)
        except DecodeError as error:
            raise DecodeError(
                f"dead letter {letter.position} was not changed, for the new body cannot be read as "
                f"{letter.envelope.type!r}: {error.args[0]}"
            ) from error

    def _kind_of(self, letter: DeadLetter) -> type[object] | None:
        """The class that the message is read as, where it stands."""
        wanted = letter.envelope.type
        if letter.group is not None:
            for group in self._groups:
                if group.name == letter.group and letter.topic in group.subscription.topics:
                    return group.types.get(wanted)
        deliveries = self._deliveries
        if deliveries is not None and letter.queue == deliveries.queue:
            message = Message(letter.topic, letter.key, letter.envelope, letter.data)
            return deliveries.kind_of(message)
        return types_of(self._bindings).get(wanted)
