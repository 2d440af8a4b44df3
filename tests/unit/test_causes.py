"""Causes: correlation, causation and metadata flow from what came from outside to all that follows."""

import pytest

from headrace import Envelope, Events, RequestMediator
from headrace.causes import Cause
from headrace.envelope import new_id, now
from headrace.errors import EnvelopeError
from tests.unit.heart import Join, Joined, Leave, make_app, raising


def test_a_request_from_outside_correlates_by_its_own_id() -> None:
    """Section 3: without a correlation id the request's own id ties together what it causes."""
    envelope = Cause(Join(), "app").envelope
    assert envelope.correlationid == envelope.id
    assert envelope.causationid is None
    assert envelope.source == "app"
    assert envelope.type == "tests.unit.heart.Join"


def test_the_envelope_is_made_once() -> None:
    """Section 3: whoever looks at a message's envelope sees the same one."""
    cause = Cause(Join(), "app")
    assert cause.envelope is cause.envelope


def test_a_chain_keeps_correlation_and_metadata_and_names_each_cause() -> None:
    """Section 3: each envelope names the id of what caused it; correlation and metadata come from the first."""
    first = Cause(Join(), "app", correlation_id="c", metadata={"tenant": "t"})
    second = Cause(Joined(), "app", first)
    third = Cause(Joined(), "app", second, metadata={"user": "u"})
    assert second.envelope.causationid == first.envelope.id
    assert third.envelope.causationid == second.envelope.id
    assert {e.correlationid for e in (first.envelope, second.envelope, third.envelope)} == {"c"}
    assert second.envelope.metadata == {"tenant": "t"}
    assert third.envelope.metadata == {"tenant": "t", "user": "u"}


def test_a_received_message_keeps_its_identity() -> None:
    """Section 3: what a consumed message causes names the message's own id, and its correlation if it has one."""
    received = Envelope(new_id(), "elsewhere", "x.v1", now(), extensions={"tenant": "t"})
    cause = Cause.received(Joined(), received)
    assert cause.envelope is received
    follow = Cause(Join(), "app", cause).envelope
    assert (follow.causationid, follow.correlationid) == (received.id, received.id)
    assert (follow.source, follow.metadata) == ("app", {"tenant": "t"})


async def test_a_nested_send_has_an_envelope_of_its_own() -> None:
    """Section 3: a nested send's envelope names the outer request; what comes after it is caused by the outer one again."""
    seen: list[Envelope] = []

    async def outer(
        request: Join, mediator: RequestMediator, envelope: Envelope, events: Events
    ) -> str:
        seen.append(envelope)
        events.append(Joined())
        return await mediator.send(Leave(), metadata={"step": "2"})

    async def joined(event: Joined, envelope: Envelope) -> None:
        seen.append(envelope)

    async def inner(request: Leave, envelope: Envelope) -> str:
        seen.append(envelope)
        return ""

    async with make_app((Join, outer), (Leave, inner), (Joined, joined)) as app:
        await app.send(Join(), metadata={"tenant": "t"})
    assert seen[1].causationid == seen[0].id
    assert seen[1].correlationid == seen[0].correlationid
    assert seen[1].metadata == {"tenant": "t", "step": "2"}
    assert (seen[2].causationid, seen[2].metadata) == (seen[0].id, {"tenant": "t"})


async def test_metadata_that_cannot_travel_is_refused_before_any_effect() -> None:
    """Section 3: metadata with a name or value that no header can carry is refused by send; no handler runs."""
    ran: list[str] = []

    async def join(request: Join, envelope: Envelope) -> str:
        ran.append("join")
        return ""

    async with make_app((Join, join), (Leave, raising())) as app:
        with pytest.raises(EnvelopeError, match="Tenant-Id"):
            await app.send(Join(), metadata={"Tenant-Id": "t"})
    assert not ran
