"""Dead letters and explanations without what is hidden in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from headrace.dead_letters import DeadLetter, DeadLetters
from headrace.envelope import Envelope
from headrace.explaining import Explanation, KeyLife, MessageLife, Standing
from headrace.redaction.by_type import Redaction
from headrace.stored import DeadErrors, Failure

LOOKED_AT: Final = 25
"""Groups of dead letters whose newest one is read too; with more groups than that the rest goes without."""


def seen_letter(redaction: Redaction, letter: DeadLetter) -> DeadLetter:
    """A dead letter as people may see it: body, error, key and envelope."""
    kind = letter.envelope.type
    if not redaction.of(kind):
        return letter
    return DeadLetter(
        position=letter.position,
        queue=letter.queue,
        group=letter.group,
        topic=letter.topic,
        key=redaction.key(kind, letter.key),
        envelope=_envelope(redaction, letter.envelope),
        data=redaction.of(kind).show(letter.data).text.encode(),
        attempts=letter.attempts,
        failure=_failure(redaction, kind, letter.failure, letter.data),
        at=letter.at,
    )


async def newest_of(
    letters: DeadLetters, errors: Sequence[DeadErrors]
) -> Mapping[int, DeadLetter | None]:
    """The newest dead letter of each of the first groups, by its position."""
    return {one.last_position: await letters.get(one.last_position) for one in errors[:LOOKED_AT]}


async def seen_errors(
    redaction: Redaction, letters: DeadLetters, errors: Sequence[DeadErrors]
) -> Sequence[DeadErrors]:
    """Dead letters by error, with the text of the newest as people may see it."""
    if not redaction.hides:
        return errors
    newest = await newest_of(letters, errors)
    return [
        replace(one, sample=sample_of(redaction, one, newest.get(one.last_position)))
        for one in errors
    ]


def sample_of(redaction: Redaction, errors: DeadErrors, newest: DeadLetter | None) -> str:
    """What the newest says, as people may see it.

    Args:
        redaction: what is hidden.
        errors: the group.
        newest: the newest of it, if it was read. Otherwise it is not known of which type the sample is, and what it may repeat.
    """
    if newest is not None and newest.failure is not None:
        return redaction.error(newest.envelope.type, newest.failure.message, newest.data)
    return "" if redaction.hides else errors.sample


def seen_explanation(redaction: Redaction, explanation: Explanation) -> Explanation:
    """An explanation as people may see it: bodies, errors, keys and envelopes."""
    if not redaction.hides:
        return explanation
    return replace(
        explanation,
        messages=tuple(_message(redaction, one) for one in explanation.messages),
        keys=tuple(_key(redaction, one) for one in explanation.keys),
    )


def _message(redaction: Redaction, life: MessageLife) -> MessageLife:
    envelope, data = life.envelope, life.data
    hidden = redaction.of(envelope.type if envelope is not None else "")
    return replace(
        life,
        envelope=None if envelope is None else _envelope(redaction, envelope),
        key=life.key if envelope is None else redaction.key(envelope.type, life.key),
        data=hidden.show(data).text.encode() if hidden and data is not None else data,
        sent=None if life.sent is None else _standing(redaction, life.sent, data),
        groups=tuple(_standings(redaction, life.groups, data)),
        handlers=tuple(_standings(redaction, life.handlers, data)),
    )


def _key(redaction: Redaction, life: KeyLife) -> KeyLife:
    # The key itself is what was asked for. The bodies behind the errors are not in an explanation of a key.
    queues = (
        replace(queue, messages=tuple(_standings(redaction, queue.messages, None)))
        for queue in life.queues
    )
    return replace(life, queues=tuple(queues))


def _standings(
    redaction: Redaction, standings: Iterable[Standing], data: bytes | None
) -> Iterable[Standing]:
    return (_standing(redaction, one, data) for one in standings)


def _standing(redaction: Redaction, standing: Standing, data: bytes | None) -> Standing:
    failure = _failure(redaction, standing.type, standing.failure, data)
    return replace(standing, failure=failure)


def _failure(
    redaction: Redaction,
    type: str,  # noqa: A002 - CloudEvents' own name
    failure: Failure | None,
    data: bytes | None,
) -> Failure | None:
    if failure is None:
        return None
    return Failure(
        error=failure.error,
        message=redaction.error(type, failure.message, data),
        traceback=redaction.error(type, failure.traceback, data),
    )


def _envelope(redaction: Redaction, envelope: Envelope) -> Envelope:
    """The attributes of the envelope without a key that is hidden."""
    kind = envelope.type
    return replace(
        envelope,
        subject=redaction.key(kind, envelope.subject),
        partitionkey=redaction.key(kind, envelope.partitionkey),
    )
