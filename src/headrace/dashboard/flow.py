"""The first page: the flow as a drawing with live figures, and as a table."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from headrace.dashboard.figures import Figure, Figures
from headrace.dashboard.live import Live, Now
from headrace.dashboard.security import protect
from headrace.dashboard.site import Site
from headrace.drawing import svg
from headrace.drawing.graph import Graph, Node, graph_of


async def page(live: Live, site: Site, request: Request) -> Response:
    """The drawing and its table, with the figures of now."""
    now = await live.now()
    graph = graph_of(site.app.describe())
    figures = Figures(graph, now)
    drawing = svg.draw_graph(graph, figures=True, title=False, style=False, link=link_of)
    return site.page(
        request,
        "flow.html",
        graph=graph,
        drawing=Markup(drawing),
        print=fingerprint(graph),
        rows=list(figures.rows()),
        cells=figures.cells(),
        tiles=figures.tiles(),
        figures=Markup(_json(written(graph, now, figures)).replace("<", "\\u003c")),
        now=now,
    )


async def stream(live: Live, site: Site, request: Request) -> Response:
    """The figures as server-sent events."""
    if not live.has_room:
        response = Response(
            "As many browsers as are allowed follow the figures already.\n",
            status_code=503,
            headers={"retry-after": "30"},
            media_type="text/plain",
        )
        protect(response)
        return response

    written_for: tuple[int, str] = (-1, "")

    def write(now: Now) -> str:
        nonlocal written_for
        if written_for[0] != now.number:
            graph = graph_of(site.app.describe())
            written_for = now.number, _json(written(graph, now, Figures(graph, now)))
        return written_for[1]

    following = StreamingResponse(live.follow(write), media_type="text/event-stream")
    # nginx would keep the events until it has enough of them.
    following.headers["x-accel-buffering"] = "no"
    protect(following)
    return following


def written(graph: Graph, now: Now, figures: Figures) -> dict[str, object]:
    """What the script of the page puts into it."""
    return {
        "at": now.at,
        "problem": now.problem or "",
        # A handler has raised something for the first time: the drawing on the page lacks an arrow.
        "drawing": fingerprint(graph),
        "edges": _plain(figures.edges()),
        "cells": _plain(figures.cells()),
        "tiles": _plain(figures.tiles()),
    }


def fingerprint(graph: Graph) -> str:
    """Changes when the drawing does."""
    text = "\n".join([*graph.nodes, *(edge.id for edge in graph.edges)])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def link_of(node: Node) -> str | None:
    """Where a click on a part of the drawing leads to: its line in the table, if it has one."""
    return f"#row-{node.id}" if node.kind in ("handler", "topic") else None


def _plain(figures: Mapping[str, Figure]) -> dict[str, list[str]]:
    return {place: [one.text, one.state] for place, one in figures.items()}


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
