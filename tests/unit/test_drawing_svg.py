"""The picture of a flow: nothing overlaps, everything can be found, it needs nothing from elsewhere."""

from __future__ import annotations

import random
import re
import types
import xml.etree.ElementTree as ET
from itertools import combinations, pairwise

import pytest

from headrace import Command, DomainEvent, EventMap, Events, Headrace, NotificationEvent, RequestMap
from headrace.description import Description
from headrace.drawing import graph_of, svg
from headrace.drawing.layers import Link, layered
from headrace.drawing.measure import cut, width_of
from headrace.drawing.picture import picture_of
from headrace.drawing.places import Tie, placed

SVG = "{http://www.w3.org/2000/svg}"


def handler(name: str, message: type) -> object:
    async def handle(message: object, events: Events) -> None:
        pass

    handle.__annotations__ = {"message": message, "events": Events, "return": None}
    handle.__name__ = handle.__qualname__ = name
    return handle


def described(size: int, seed: int = 1) -> Description:
    """An app with about twice as many handlers as `size`, circles among them."""
    chance = random.Random(seed)
    events = [
        types.new_class(f"Something{n}Happened", (DomainEvent,), {}, _module) for n in range(size)
    ]
    told = [
        types.new_class(
            f"Thing{n}Announced",
            (NotificationEvent,),
            {"type": f"thing-{n}.v1", "topic": f"topic-{n % 3}", "key": "k"},
            _keyed,
        )
        for n in range(size // 2 + 1)
    ]
    requests, bound = RequestMap(), EventMap()
    for n in range(size):
        command = types.new_class(f"DoThing{n}", (Command[None],), {}, _module)
        raises = chance.sample(events, chance.choice([0, 1, 1, min(2, size)]))
        requests.bind(command, handler(f"do_{n}", command), raises=raises)  # type: ignore[call-overload]
    for n, event in enumerate(events):
        for m in range(chance.choice([0, 1, 2])):
            follow = [chance.choice(told), chance.choice(events)][: chance.choice([0, 1, 2])]
            bound.bind(event, handler(f"on_{n}_{m}", event), raises=follow)  # type: ignore[arg-type]
    for n, notification in enumerate(told):
        back = [chance.choice(events)] if chance.random() < 0.2 else []
        bound.bind(notification, handler(f"hear_{n}", notification), raises=back)  # type: ignore[arg-type]
    return Headrace(
        "big", requests=requests, events=bound, storage="memory://", broker="memory://"
    ).describe()


def _module(body: dict[str, object]) -> None:
    body["__module__"] = "somewhere"


def _keyed(body: dict[str, object]) -> None:
    body |= {"__module__": "somewhere", "__annotations__": {"k": str}}


@pytest.mark.parametrize("size", [1, 4, 15, 80])
@pytest.mark.parametrize("figures", [False, True])
def test_no_card_overlaps_another_and_no_arrow_runs_below_one(size: int, figures: bool) -> None:
    """From 2 handlers to 200: the level parts of arrows keep clear of every card."""
    picture = picture_of(graph_of(described(size, seed=size)), figures=figures)
    boxes = [(p.x, p.y, p.x + p.card.width, p.y + p.card.height) for p in picture.places]
    for one, other in combinations(boxes, 2):
        apart = one[2] < other[0] or other[2] < one[0] or one[3] < other[1] or other[3] < one[1]
        assert apart, (one, other)
    for line in picture.lines:
        for (x, y), (to_x, to_y) in pairwise(line.points):
            if y != to_y and x != to_x:
                continue  # it bends here, between two columns
            left, right = sorted((x, to_x))
            top, bottom = sorted((y, to_y))
            for box in boxes:
                crosses = (
                    left < box[2] - 1 and right > box[0] + 1 and top < box[3] and bottom > box[1]
                )
                assert not crosses, (line.wire.edge, box)
    for left, top, right, bottom in boxes:
        assert left >= 0
        assert top >= 0
        assert right <= picture.width
        assert bottom <= picture.height


def test_words_on_arrows_are_apart() -> None:
    """Those that end at one place arrive one below the other, with room for a line of text."""
    picture = picture_of(graph_of(described(40)), figures=True)
    words = sorted((line.text_x, line.text_y) for line in picture.lines)
    for (x, y), (other_x, other_y) in pairwise(words):
        assert x != other_x or other_y - y >= 12


def test_every_node_and_arrow_can_be_found_once() -> None:
    """A page finds them by the ids of the description, and writes figures where there is a place for each arrow."""
    description = described(12)
    graph = graph_of(description)
    root = ET.fromstring(svg.draw(description))
    nodes = [one.get("data-node") for one in root.iter() if one.get("data-node")]
    assert sorted(map(str, nodes)) == sorted(graph.nodes)
    figures = [one for one in root.iter(f"{SVG}text") if one.get("class") == "figure"]
    assert sorted(str(one.get("data-edge")) for one in figures) == sorted(
        edge.id for edge in graph.edges
    )
    assert all(one.text is None for one in figures)
    ids = [one.get("id") for one in root.iter() if one.get("id")]
    assert len(ids) == len(set(ids))
    drawn = {one.get("data-edge") for one in root.iter() if one.tag in (f"{SVG}g", f"{SVG}path")}
    assert {edge.id for edge in graph.edges} <= drawn


def test_it_needs_nothing_from_elsewhere() -> None:
    """No scripts, no fonts, no links; the style sheet can be left to the page."""
    description = described(3)
    text = svg.draw(description)
    assert not re.search(r"<script|@import|url\(|href|on\w+=", text)
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "prefers-color-scheme: dark" in text
    bare = svg.draw(description, style=False, title=False)
    assert "<style" not in bare
    assert "style=" not in bare
    linked = svg.draw(description, link=lambda node: f"/x?a&{node.kind}")
    assert '<a href="/x?a&amp;command">' in linked
    ET.fromstring(linked)


def test_the_same_app_gives_the_same_picture() -> None:
    """So that a picture in a repository changes only with the flow."""
    assert svg.draw(described(20)) == svg.draw(described(20))


def test_an_app_without_anything_has_a_picture() -> None:
    """It is empty, and says whose it is."""
    root = ET.fromstring(svg.draw(Headrace("empty").describe()))
    assert "empty" in "".join(root.itertext())


def test_what_is_not_declared_is_said_below() -> None:
    """In lines that are not wider than the picture."""

    class Do(Command[None]):
        pass

    async def do_this_and_that(request: Do, events: Events) -> None:
        pass

    requests = RequestMap()
    requests.bind(Do, do_this_and_that)
    text = svg.draw(Headrace("shop", requests=requests).describe())
    assert "is not declared: do_this_and_that" in text
    root = ET.fromstring(text)
    width = float(root.get("width") or 0)
    lines = [one for one in root.iter(f"{SVG}text") if "missing" in (one.get("class") or "")]
    assert len(lines) > 1
    assert all(width_of(one.text or "", 12) <= width for one in lines)


def test_arrows_lead_to_the_right_but_for_those_that_close_a_circle() -> None:
    """0 leads to 1 and 2, 2 back to 0; a long arrow has a bend in each column that it passes."""
    found = layered(4, [Link(0, 1), Link(1, 2), Link(2, 0), Link(0, 2), Link(3, 3)])
    assert [column[0] for column in found.columns[:3]] != []
    assert found.paths[2] is None
    assert found.paths[4] is None
    long = found.paths[3]
    assert long is not None
    assert len(long) == 3
    assert long[1] >= 4


def test_crossings_are_taken_out_where_the_order_allows() -> None:
    """Two arrows that cross as given do not cross in the picture."""
    found = layered(4, [Link(0, 3), Link(1, 2)])
    left, right = found.columns
    assert left.index(0) - left.index(1) == right.index(3) - right.index(2)


def test_items_stand_level_with_what_they_lead_to_and_apart() -> None:
    """As near as possible to level; the sum of squares decides where they are in each other's way."""
    tops = placed(
        [[0, 1], [2]],
        {0: 20.0, 1: 20.0, 2: 20.0},
        [Tie(0, 10.0, 2, 10.0), Tie(1, 10.0, 2, 10.0)],
        space=10.0,
    )
    assert tops[1] - tops[0] == pytest.approx(30.0)
    assert tops[2] == pytest.approx((tops[0] + tops[1]) / 2, abs=0.2)


def test_long_names_are_cut_in_the_middle() -> None:
    """Both ends tell them apart."""
    assert cut("short", 10) == "short"
    assert cut("a" * 30 + "b" * 30, 11) == "aaaaa…bbbbb"
