"""Live figures: read once for all who look, summed over processes, and streamed without end only to those who stay."""

from __future__ import annotations

import asyncio

import httpx
import msgspec
import pytest

from headrace import DomainEvent, Headrace, Module, NotificationEvent
from headrace.dashboard.counted import Counts
from headrace.dashboard.figures import Figures
from headrace.dashboard.live import Live, Now
from headrace.dashboard.reading import Reader
from headrace.drawing.graph import Graph, graph_of
from headrace.storage import Backlog
from headrace.telemetry import Count
from tests.unit.dashboards import Dashboard, charge, client_of, make_app


def test_counts_are_summed_by_the_labels_that_are_asked_for() -> None:
    """Whatever other labels there are; without rates the rate is unknown."""
    totals = {
        "headrace.relay.published": 5,
        "headrace.relay.published{topic=a}": 3,
        "headrace.relay.published{topic=b}": 2,
        "headrace.consumer.handled{group=g,topic=a,type=x}": 1,
        "headrace.consumer.handled{group=g,topic=a,type=y}": 2,
    }
    rates = {"headrace.relay.published{topic=a}": 1.5}
    counts = Counts(totals, rates)
    assert counts.of(Count.PUBLISHED, topic="a") == (3, 1.5)
    assert counts.of(Count.PUBLISHED) == (5, 0.0)
    assert counts.of(Count.CONSUMED, topic="a", group="g") == (3, 0.0)
    assert counts.of(Count.CONSUMED, topic="c") == (0, 0.0)
    assert Counts(totals).of(Count.PUBLISHED) == (5, None)


async def test_those_who_look_at_the_same_time_cause_one_reading(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many ask, the database is asked once within the pace."""
    app = make_app()
    async with app:
        assert app.storage is not None
        asked = 0
        backlog = app.storage.backlog

        async def counted(queue: str) -> Backlog:
            nonlocal asked
            asked += queue.startswith("outbox")
            return await backlog(queue)

        monkeypatch.setattr(app.storage, "backlog", counted)
        live = Live(app, Reader(5), most=10)
        found = await asyncio.gather(*(live.now() for _ in range(20)))
        assert asked == 1
        assert len({one.number for one in found}) == 1
        assert (await live.now()).number == found[0].number


async def test_a_stream_ends_when_it_is_told_to() -> None:
    """Each event is one line of JSON; the end of the streams comes within a moment."""
    app = make_app()
    async with app:
        live = Live(app, Reader(5), most=10)
        stream = live.follow(lambda now: f'{{"number":{now.number}}}')
        assert await anext(stream) == "retry: 2000\n\n"
        assert await anext(stream) == 'data: {"number":0}\n\n'
        assert live.streams == 1
        live.end()
        assert [one async for one in stream] == []
        assert live.streams == 0


async def test_a_browser_that_leaves_frees_its_place() -> None:
    """Closing a stream ends it; without a place another browser is refused for a while."""
    app = make_app()
    pages = Dashboard(app, streams=0)
    async with app, client_of(pages) as client:
        answer = await client.get("live")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "30"
        live = Live(app, Reader(5), most=1)
        stream = live.follow(lambda now: "{}")
        await anext(stream)
        assert not live.has_room
        await stream.aclose()
        assert live.has_room


async def test_the_stream_is_one_of_server_sent_events() -> None:
    """It has its media type, is kept by no cache and by no proxy."""
    app = make_app()
    pages = Dashboard(app)
    async with app, client_of(pages) as client:
        pages.end_streams()
        answer = await client.get("live")
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-accel-buffering"] == "no"
        assert answer.text == "retry: 2000\n\n"


async def test_the_flow_has_figures_at_its_arrows_and_in_its_table() -> None:
    """Totals come of the counts of this process, and dead letters stand at their group."""
    app = make_app()
    pages = Dashboard(app)
    async with app, client_of(pages) as client:
        await charge(app, 1, 2, -1)
        page: httpx.Response = await client.get("")
        graph = graph_of(app.describe())
        live = Live(app, Reader(5), most=1)
        figures = Figures(graph, await live.now())
        assert figures.edges()["t:payments g:shop"].text.endswith("1 dead")
        assert figures.tiles()["dead"].state == "failing"
        totals = {id: one.text for id, one in figures.cells().items() if id.endswith(" total")}
        assert totals["t:payments total"] == "3"
        assert 'data-node="t:payments"' in page.text
        assert 'data-cell="t:payments total"' in page.text


async def test_a_database_that_is_away_is_a_problem_and_no_error() -> None:
    """The figures stay, and the reason is told."""
    app = make_app()
    live = Live(app, Reader(5), most=1)
    async with app:
        await live.now()
    stopped = Live(app, Reader(0.05), most=1)

    async def hangs() -> object:
        await asyncio.Event().wait()
        return None

    stopped._ask = hangs  # type: ignore[method-assign, assignment]
    now: Now = await stopped.now()
    assert now.status is None
    assert "has not answered" in str(now.problem)
    assert Figures(graph_of(app.describe()), now).tiles()["dead"].text == "\u2013"
    assert msgspec.json.encode(
        [one.text for one in Figures(graph_of(app.describe()), now).cells().values()]
    )


class Sent(DomainEvent):
    pass


class One(NotificationEvent, type="two.one.v1", topic="two", key=None):
    pass


class Other(NotificationEvent, type="two.other.v1", topic="two", key=None):
    pass


def shared_topic() -> Graph:
    """Two notifications on one topic."""
    module = Module("two")

    @module.handler(raises=[One, Other])
    async def tell(event: Sent) -> None: ...

    app = Headrace("two", modules=[module], storage="memory://", broker="memory://")
    return graph_of(app.describe())


def test_messages_that_share_a_topic_have_figures_of_their_own() -> None:
    """What is published is counted by topic and type; the topic itself has their sum."""
    graph = shared_topic()
    one, other = (node.id for node in graph.of_kind("notification"))
    published = {
        "headrace.relay.published{topic=two,type=two.one.v1}": 9,
        "headrace.relay.published{topic=two,type=two.other.v1}": 2,
    }
    counts = Counts(published, dict(zip(published, (4.5, 1.0), strict=True)))
    figures = Figures(graph, Now(0.0, 0, None, (), None, counts))
    edges = {id: figure.text for id, figure in figures.edges().items()}
    assert edges == {f"{one} t:two": "4.5/s", f"{other} t:two": "1.0/s"}
    assert figures.cells()["t:two rate"].text == "5.5"


def test_what_nobody_counts_is_unknown_and_not_nothing() -> None:
    """Handlers have a dash where no process counts them by name."""
    graph = shared_topic()
    handler = graph.of_kind("handler")[0].id
    nobody = Figures(graph, Now(0.0, 0, None, (), None, Counts({}, {})))
    assert nobody.cells()[f"{handler} total"].text == "\u2013"
    assert nobody.tiles()["sent"].text == "\u2013"
    somebody = Counts({"headrace.request.sent": 3}, {})
    counted = Figures(graph, Now(0.0, 0, None, (), None, somebody))
    assert counted.cells()[f"{handler} total"].text == "0"
