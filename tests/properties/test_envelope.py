"""Envelopes come back from attributes and bytes, whatever they hold."""

from hypothesis import given
from hypothesis import strategies as st

from headrace.envelope import (
    Envelope,
    attributes,
    check_metadata,
    from_attributes,
    new_id,
    now,
    pack,
    unpack,
)
from headrace.errors import EnvelopeError
from headrace.text import forbidden_character

ATTRIBUTES = frozenset(attributes(Envelope("i", "s", "t", "z", *"abcdefgh"))) | {"data"}

text = st.text(min_size=1, max_size=60).filter(lambda value: forbidden_character(value) is None)
optional = st.none() | text
names = st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True).filter(lambda n: n not in ATTRIBUTES)
metadata = st.dictionaries(names, text | st.just(""), max_size=5)
envelopes = st.builds(
    Envelope,
    id=text,
    source=text,
    type=text,
    time=st.just("") | st.builds(now),
    subject=optional,
    datacontenttype=optional,
    dataschema=optional,
    partitionkey=optional,
    sequence=optional,
    correlationid=optional,
    causationid=optional,
    traceparent=optional,
    extensions=metadata,
)


@given(envelopes)
def test_every_envelope_comes_back(envelope: Envelope) -> None:
    """Attributes and packed bytes hold all of an envelope."""
    assert from_attributes(attributes(envelope)) == envelope
    assert unpack(pack(envelope)) == envelope


@given(st.dictionaries(st.text(max_size=25), st.text(max_size=25), max_size=5))
def test_any_attributes_are_an_envelope_or_an_envelope_error(found: dict[str, str]) -> None:
    """G14: no text from the wire raises anything but an EnvelopeError."""
    try:
        envelope = from_attributes(found | {"specversion": "1.0", "id": "1", "source": "s"})
    except EnvelopeError:
        return
    assert from_attributes(attributes(envelope)) == envelope


@given(st.dictionaries(st.text(max_size=25), st.text(max_size=25), max_size=5))
def test_metadata_that_is_taken_travels(given_metadata: dict[str, str]) -> None:
    """Whatever check_metadata lets through is read back on the other side."""
    try:
        checked = check_metadata(given_metadata)
    except EnvelopeError:
        return
    envelope = Envelope(new_id(), "s", "t", now(), extensions=checked)
    assert from_attributes(attributes(envelope)).metadata == given_metadata
