"""CloudEvents on protocols: a message as headers and body, and whatever a broker brings as a message.

Every driver writes with `to_headers` and reads with a `WireFormat`, so that all of them trust as little (G14).

Source: CloudEvents 1.0.2, its protocol bindings for Kafka, AMQP, NATS and HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from headrace.envelope import Envelope, Message, attributes, from_attributes
from headrace.errors import EnvelopeError
from headrace.telemetry import Logbook, LogEvent
from headrace.text import forbidden_character, said_by
from headrace.wire.headers import header_text, percent_decoded, percent_encoded, to_headers
from headrace.wire.structured import read_structured

__all__ = [
    "UNREADABLE",
    "Raw",
    "WireFormat",
    "header_text",
    "percent_decoded",
    "percent_encoded",
    "to_headers",
]

UNREADABLE: Final = "headrace.unreadable"
"""The type of what is no message that Headrace can read. No group binds it: it is passed over and counted."""

_LONGEST: Final = (
    255  # characters of an id, a source or a key: what the columns of the storage hold
)
_REASON_CHARACTERS: Final = 300
_MOST_NAMES: Final = 1_000
_CONTENT_TYPE: Final = "content-type"  # no name of an attribute: those have no hyphen
_OTHER: Final = "Other"  # neither, because names are read in small letters


@dataclass(frozen=True, slots=True)
class Raw:
    """A message as a broker brought it, before anybody knows what it is.

    Args:
        topic: where it was read.
        partition: of the topic.
        position: in the partition; the same whenever this message is read.
        key: the broker's key of the message (of a Kafka record), or None.
        headers: by name; values as text, see `header_text`.
        content_type: what the protocol says of the body, or None.
        data: the body.
        time_seconds: the broker's time stamp, UTC seconds since the epoch, or None.
    """

    topic: str
    partition: int
    position: str
    key: str | None
    headers: Mapping[str, str]
    content_type: str | None
    data: bytes
    time_seconds: float | None = None


class WireFormat:
    """Reads messages of a protocol: CloudEvents in binary and in structured mode, and what a mapping makes of others.

    Args:
        prefix: of the headers that are attributes, such as `ce_`. Case does not matter.
        foreign: for messages that are no CloudEvents: what they mean, or None if they mean nothing here. Identity must come
            from the message, so that a repeat has the same `source` and `id`. Default None: they are unreadable.
        also: other prefixes that are read too.
        unreadable: called with a sentence for people at the first unreadable message of a topic for each kind of reason.
            Default None: it is a warning in the log.
    """

    __slots__ = ("_foreign", "_names", "_prefixes", "_reported", "_unreadable")

    def __init__(
        self,
        prefix: str,
        *,
        foreign: Callable[[Raw], Envelope | None] | None = None,
        also: Sequence[str] = (),
        unreadable: Callable[[str], None] | None = None,
    ) -> None:
        self._prefixes = tuple(one.lower() for one in (prefix, *also))
        self._names = _Names(self._prefixes)
        self._foreign = foreign
        self._unreadable = unreadable
        self._reported: set[tuple[str, str]] = set()

    def message(self, raw: Raw) -> Message:
        """The message that was read. Never raises for anything that came from the wire.

        What cannot be read has the type `UNREADABLE`, its place in the broker as source and id, and the reason as the
        extension `reason`. A key that is longer than 255 characters or has forbidden ones counts as none (G14).
        """
        try:
            envelope, data = self._read(raw)
            _check_lengths(envelope)
        except _Unreadable as error:
            return self._skipped(raw, error.kind, str(error))
        except EnvelopeError as error:
            return self._skipped(raw, "attributes", str(error))
        key = envelope.partitionkey
        if key is None:
            key = raw.key if _usable(raw.key) else None
        elif len(key) > _LONGEST:  # as an attribute it was looked at; of a key less is stored
            key = None
        return Message(raw.topic, key, envelope, data)

    def _read(self, raw: Raw) -> tuple[Envelope, bytes]:
        names = self._names
        found = {names[given]: value for given, value in raw.headers.items()}
        found.pop(_OTHER, None)
        in_headers = found.pop(_CONTENT_TYPE, None)
        content_type = raw.content_type or in_headers
        if content_type and content_type[:23].lower() == "application/cloudevents":
            _check_structured(content_type)
            found, data = read_structured(raw.data)
            return from_attributes(found), data
        if "specversion" in found or (found and self._foreign is None):
            if content_type and "datacontenttype" not in found:
                found["datacontenttype"] = content_type
            return from_attributes(found), raw.data
        # NATS before headers, and Redis: the body says by itself that it is an event.
        if not content_type and raw.data[:1] == b"{" and b'"specversion"' in raw.data:
            try:
                found, data = read_structured(raw.data)
                return from_attributes(found), data
            except EnvelopeError:
                if self._foreign is None:
                    raise
        return self._mapped(raw), raw.data

    def _mapped(self, raw: Raw) -> Envelope:
        if self._foreign is None:
            raise _Unreadable(
                "none",
                f"it has no header that begins with {self._prefixes[0]!r} and its content type is {raw.content_type!r}, so "
                "it is no CloudEvent. To read messages of other producers, give the broker foreign=.",
            )
        try:
            envelope = self._foreign(raw)
            # It has copied values of the wire: they are trusted no more than before.
            checked = None if envelope is None else from_attributes(attributes(envelope))
        except Exception as error:
            raise _Unreadable(
                f"foreign {type(error).__name__}",
                f"foreign= raised {type(error).__name__}: {said_by(error)}",
            ) from error
        if checked is None:
            raise _Unreadable("declined", "it is no CloudEvent, and foreign= returned None for it.")
        return checked

    def _skipped(self, raw: Raw, kind: str, reason: str) -> Message:
        place = f"{raw.topic}/{raw.partition}/{raw.position}"
        reason = _printable(reason)[:_REASON_CHARACTERS]
        if (raw.topic, kind) not in self._reported:
            self._reported.add((raw.topic, kind))
            text = (
                f"The message at {place} cannot be read and is passed over: {reason} Others of topic {raw.topic!r} that are "
                "unreadable for the same kind of reason are counted and not logged."
            )
            if self._unreadable is not None:
                self._unreadable(text)
            else:
                Logbook().warning(
                    LogEvent.MESSAGE_UNREADABLE,
                    text,
                    topic=raw.topic,
                    partition=raw.partition,
                    position=raw.position,
                )
        envelope = Envelope(
            id=place,
            source=f"broker:{raw.topic}",
            type=UNREADABLE,
            time="",
            extensions={"reason": reason},
        )
        return Message(raw.topic, None, envelope, raw.data)


class _Names(dict[str, str]):
    """The attribute that a header is, or `_OTHER`. Headers have few names, so each is looked at once."""

    def __init__(self, prefixes: Sequence[str]) -> None:
        super().__init__()
        self._prefixes = prefixes

    def __missing__(self, header: str) -> str:
        name, found = header.lower(), _OTHER
        if name == "content-type":
            found = _CONTENT_TYPE
        for prefix in self._prefixes:
            if name.startswith(prefix):
                found = name[len(prefix) :]
                break
        if len(self) < _MOST_NAMES:  # whoever writes to the broker chooses the names
            self[header] = found
        return found


class _Unreadable(Exception):
    """Why a message is none that can be read; the kind is what is logged once."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def _check_structured(content_type: str) -> None:
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type.startswith("application/cloudevents-batch"):
        raise _Unreadable(
            "batch",
            f"its content type is {media_type!r}: a batch has no single id and key. Let the producer publish its events one "
            "by one.",
        )
    if media_type not in ("application/cloudevents+json", "application/cloudevents"):
        raise _Unreadable(
            "format",
            f"its content type is {media_type!r}; of the structured formats application/cloudevents+json is read.",
        )


def _check_lengths(envelope: Envelope) -> None:
    if max(len(envelope.id), len(envelope.source), len(envelope.type)) <= _LONGEST:
        return
    for name, value in (("id", envelope.id), ("source", envelope.source), ("type", envelope.type)):
        if len(value) > _LONGEST:
            raise EnvelopeError(
                f"the attribute {name} has {len(value)} characters, at most {_LONGEST} are read: {value[:100]!r}..."
            )


def _usable(key: str | None) -> bool:
    checked = cast("object", key)  # a driver may have passed on what a header held
    return (
        isinstance(checked, str)
        and 0 < len(checked) <= _LONGEST
        and forbidden_character(checked) is None
    )


def _printable(text: str) -> str:
    while (character := forbidden_character(text)) is not None:
        text = text.replace(character, "?")
    return text
