"""Fields that are hidden: by class, by type, by annotation, however deep; and their values in texts and edits."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import DomainEvent, Event, NotificationEvent, Sensitive, notification
from headrace.dashboard import Dashboard
from headrace.description import message_info
from headrace.redaction import MARK, Hidden, Redaction, Unusable
from headrace.sensitive import sensitive_paths
from tests.unit.dashboards import ada, charge, client_of, make_app, position_of


class Card(msgspec.Struct):
    number: Annotated[str, Sensitive]
    name: str = ""


@dataclass
class Person:
    email: Annotated[str, Sensitive()]
    cards: list[Card]
    by_shop: dict[str, Card]
    friend: Person | None = None


class Node(msgspec.Struct):
    """A tree, whose nodes have something to hide; its colours have nothing."""

    secret: Annotated[str, Sensitive]
    colour: Colour
    children: list[Node]


class Colour(msgspec.Struct):
    name: str
    mixed_of: tuple[Colour, ...] = ()


class Renamed(msgspec.Struct, rename="camel"):
    the_card: Card
    tax_number: Annotated[str | None, Sensitive] = None


class Model(pydantic.BaseModel):
    secret: Annotated[str, Sensitive] = pydantic.Field(alias="theSecret")


class Paid(NotificationEvent, type="shop.paid.v1", topic="shop", key="email"):
    email: str
    amount: int


class Refunded(Paid, type="shop.refunded.v1", topic="shop", key="email"):
    pass


class Noted(DomainEvent):
    note: str


def test_annotated_fields_are_found_by_the_names_that_they_have_in_json() -> None:
    """In dataclasses, Structs and pydantic models, in lists, mappings and classes within classes."""
    assert sensitive_paths(Person) == [
        *(("email",), ("cards", "number"), ("by_shop", "*", "number")),
        ("friend",),
    ]
    assert sensitive_paths(Renamed) == [("theCard", "number"), ("taxNumber",)]
    assert sensitive_paths(Model) == [("theSecret",)]


def test_a_class_within_itself_is_hidden_if_it_has_something_to_hide() -> None:
    """Marked fields may be at any depth there, so the field that leads to them is hidden as a whole."""
    assert sensitive_paths(Node) == [("secret",), ("children",)]
    tree = (
        b'{"secret":"s0","colour":{"name":"red","mixed_of":[]},"children":[{"secret":"s1-deep"}]}'
    )
    shown = Hidden(sensitive_paths(Node)).show(tree)
    assert msgspec.json.decode(shown.text) == {
        "secret": "«hidden 1»",
        "colour": {"name": "red", "mixed_of": []},
        "children": "«hidden 2»",
    }


def test_fields_are_hidden_by_class_by_type_and_everywhere() -> None:
    """A class stands for those below it; the star for every type, also one that the app does not know."""
    messages = [message_info(kind) for kind in (Paid, Refunded, Noted)]
    hidden = Redaction({Paid: ["email"], "shop.refunded.v1": ["amount"], "*": ["ip"]}, messages)
    assert set(hidden.of("shop.paid.v1").paths) == {("email",), ("ip",)}
    assert set(hidden.of("shop.refunded.v1").paths) == {("email",), ("amount",), ("ip",)}
    assert hidden.of("other.thing.v1").paths == (("ip",),)
    assert hidden.of("shop.paid.v1").hides_key
    assert not hidden.of("other.thing.v1").hides_key


def test_a_key_is_hidden_if_it_may_tell_a_hidden_value() -> None:
    """Also of a field that JSON names otherwise, and of a function, of which nobody knows what it reads."""

    class Signed(NotificationEvent, type="shop.signed.v1", topic="shop", key=lambda e: e.email):
        email: Annotated[str, Sensitive]

    class Counted(NotificationEvent, type="shop.counted.v1", topic="shop", key=lambda e: str(e.n)):
        n: int

    @notification(type="shop.taxed.v1", topic="shop", key="tax_number")
    class Taxed(msgspec.Struct, Event, rename="camel"):
        tax_number: Annotated[str, Sensitive]
        amount: int

    @notification(type="shop.billed.v1", topic="shop", key="bill_number")
    class Billed(msgspec.Struct, Event, rename="camel"):
        bill_number: str
        email: Annotated[str, Sensitive]

    redaction = Redaction({}, [message_info(one) for one in (Signed, Counted, Taxed, Billed)])
    shown = {
        name: redaction.key(f"shop.{name}.v1", "k")
        for name in ("signed", "counted", "taxed", "billed")
    }
    assert shown == {"signed": MARK, "counted": "k", "taxed": MARK, "billed": "k"}


def test_hidden_values_are_taken_out_of_a_body_however_deep() -> None:
    """Paths go through lists, a star through any name; the rest stays as it was."""
    hidden = Hidden([("card", "number"), ("people", "*", "email"), ("tags",)])
    shown = hidden.show(
        b'{"card":{"number":"4111","year":2030},"people":{"a":{"email":"a@x"},"b":[{"email":null}]},'
        b'"tags":["one","two"],"total":1.5}'
    )
    assert msgspec.json.decode(shown.text) == {
        "card": {"number": "«hidden 2»", "year": 2030},
        "people": {"a": {"email": "«hidden 3»"}, "b": [{"email": "«hidden 4»"}]},
        "tags": "«hidden 1»",
        "total": 1.5,
    }
    assert shown.hidden == 4


@pytest.mark.parametrize(
    "body",
    [
        b'{"card":"4111-secret"}',
        b'{"card":["4111-secret"]}',
        b'["4111-secret"]',
        b'"4111-secret"',
        b"4111-secret",
        b'{"card":{"number":"4111-secret"',
        b'{"card":{"number":{"first":"4111-secret"}}}',
        b'{"card":{"number":"no","number":"4111-secret"}}',
    ],
)
def test_a_body_of_another_shape_shows_no_more(body: bytes) -> None:
    """Where a value stands in place of an object, or the body is no JSON, it is hidden all the same."""
    hidden = Hidden([("card", "number")])
    assert "4111-secret" not in hidden.show(body).text
    assert "4111-secret" not in hidden.scrub("it was 4111-secret", body)


def test_hidden_values_are_taken_out_of_errors() -> None:
    """The text keeps what is not hidden; asked for, it goes as a whole."""
    messages = [message_info(Paid)]
    body = b'{"email":"ada@example.com","amount":12}'
    some = Redaction({Paid: ["email"]}, messages)
    assert (
        some.error("shop.paid.v1", "no account ada@example.com, 12", body)
        == "no account «hidden», 12"
    )
    whole = Redaction({Paid: ["email"]}, messages, hides_errors=True)
    assert "12" not in whole.error("shop.paid.v1", "no account ada@example.com, 12", body)
    assert whole.error("other.thing.v1", "an error", b"{}") == "an error"


@pytest.mark.parametrize("quote", [str, repr, ascii, json.dumps])
def test_values_that_an_error_quotes_are_hidden_too(quote: Callable[[str], object]) -> None:
    """An error that writes a value with escapes, as `repr` does, shows no more of it."""
    value = "ein Straßenname,\nund \"mehr\" 'davon'"
    hidden = Hidden([("street",)])
    text = hidden.scrub(f"no such street: {quote(value)}.", msgspec.json.encode({"street": value}))
    assert "enname" not in text
    assert "mehr" not in text


def test_a_whole_body_can_be_hidden() -> None:
    """A star as path leaves nothing of it."""
    assert Hidden([("*",)]).show(b'{"a":{"b":"secret"},"c":1}').text.count("hidden") == 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "card", "number"]), inside, max_size=4)
    ),
    max_leaves=12,
)


@given(value=JSON)
def test_an_edit_that_changes_nothing_gives_the_same_body(value: object) -> None:
    """Whatever the body is, its marks become its values again."""
    hidden = Hidden([("card", "number"), ("a",), ("*", "b")])
    body = msgspec.json.encode(value)
    restored = hidden.restore(hidden.show(body).text, body)
    assert msgspec.json.decode(restored) == value


@given(value=JSON)
def test_what_is_shown_has_no_hidden_value(value: object) -> None:
    """A text in a hidden place is nowhere in what is shown."""
    body = msgspec.json.encode({"card": {"number": "4111-secret", "x": value}, "rest": value})
    assert "4111-secret" not in Hidden([("card", "number")]).show(body).text


@pytest.mark.parametrize(
    "text",
    [
        '{"open":"«hidden 1»"}',
        '{"card":{"number":"is «hidden 1»"}}',
        '{"card":{"number":["«hidden 1»"]}}',
        '{"card":{"«hidden 1»":1}}',
        '{"card":{"number":"\\u00abhidden 1»"}}',
        '{"card":{"number":"«hidden 1»"},"card":{"open":"«hidden 1»"}}',
    ],
)
def test_a_mark_cannot_be_moved_to_where_its_value_would_be_seen(text: str) -> None:
    """Only the whole value of a hidden field may be a mark."""
    with pytest.raises(Unusable):
        Hidden([("card", "number")]).restore(text, b'{"card":{"number":"4111"}}')


async def test_hidden_values_leave_the_server_on_no_page() -> None:
    """Neither bodies, nor errors, nor keys, nor lists, nor the life of a message shows them."""
    app = make_app()
    pages = Dashboard(app, authorize=ada, redact={"payments.charged.v1": ["order"]})
    async with app, client_of(pages) as client:
        await charge(app, -1, 2, order="order-secret")
        letter = (await app.dead_letters.list())[0]
        position = await position_of(app)
        await app.dead_letters.edit(position, letter.data, by="ada")
        assert "key «hidden»" in (await client.get("audit")).text
        for page in (
            *("", "backlogs", "dead", "dead/list", f"dead/{position}", f"dead/{position}/edit"),
            *(
                f"messages?of={letter.envelope.id}",
                f"dead/ask?do=drop&position={position}",
                "audit",
            ),
        ):
            text = (await client.get(page)).text
            assert "ada@example.com" not in text, page
            assert "order-secret" not in text, page
