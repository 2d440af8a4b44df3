"""`headrace flow`: the whole flow of an app as a tree, Mermaid, SVG or JSON."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.text import Text
from rich.tree import Tree

from headrace.cli.ending import Code, Fault
from headrace.cli.loading import load
from headrace.cli.output import App, Json, Output, answering
from headrace.description import Description
from headrace.drawing import mermaid, svg, tree
from headrace.drawing.graph import Graph, NodeKind, graph_of
from headrace.drawing.tree import Branch


class Format(enum.StrEnum):
    """What a flow may be written as."""

    TREE = "tree"
    MERMAID = "mermaid"
    SVG = "svg"
    JSON = "json"


def flow(
    app: App,
    form: Annotated[
        Format | None,
        typer.Option("--format", help="Default: by the name of --output, else a tree."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write to this file: .svg, .mmd, .json or .txt."),
    ] = None,
    command: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only what this command, query or event leads to."),
    ] = None,
    json: Json = False,
) -> None:
    """Draw the flow of events through an app.

    Commands, their handlers, the events that these raise, topics, groups, and the handlers there. It is read from the wiring:
    nothing is started or connected. What handlers raise is known if it is declared by raises=[...].
    """
    with answering(app, json) as out:
        chosen = Format.JSON if json else form or _format_of(output)
        description = load(app).describe()
        graph = graph_of(description, command=command)
        if output is not None:
            _write(output, _text(chosen, description, graph))
            if json:
                out.data({"output": str(output), "format": "json"})
            else:
                out.show(Text(f"{output} has the flow of {graph.app} as {chosen}."))
        elif chosen is Format.TREE:
            _show(out, graph)
        else:
            typer.echo(_text(chosen, description, graph), nl=False)


def _format_of(output: Path | None) -> Format:
    if output is None:
        return Format.TREE
    kinds = {
        ".svg": Format.SVG,
        ".json": Format.JSON,
        ".mmd": Format.MERMAID,
        ".txt": Format.TREE,
    }
    found = kinds.get(output.suffix.lower())
    if found is None:
        raise Fault(
            f"{output} does not tell which format it is to have. Name it {', '.join(kinds)}, or pass --format.",
            Code.USAGE,
        )
    return found


def _text(form: Format, description: Description, graph: Graph) -> str:
    match form:
        case Format.TREE:
            return tree.text_of(graph)
        case Format.MERMAID:
            return mermaid.text_of(graph)
        case Format.SVG:
            return svg.draw_graph(graph)
        case Format.JSON:
            data = description.to_data()
            data["nodes"] = list(graph.nodes.values())
            data["edges"] = list(graph.edges)
            data["missing"] = graph.missing or None
            return msgspec.json.format(msgspec.json.encode(data), indent=2).decode() + "\n"


def _write(output: Path, text: str) -> None:
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Fault(
            f"{output} cannot be written: {error.strerror}. Give --output a file in a folder that exists.",
            Code.USAGE,
        ) from error


def _show(out: Output, graph: Graph) -> None:
    out.show(Text.assemble((graph.app, "bold"), (f"  {graph.summary}", "dim")))
    for branch in tree.branches_of(graph):
        out.show("", _tree(branch, Tree(_label(branch), guide_style="dim")))
    if graph.missing:
        out.show("", Text(graph.missing, "yellow"))


def _tree(branch: Branch, at: Tree) -> Tree:
    for one in branch.branches:
        _tree(one, at.add(_label(one)))
    return at


def _label(branch: Branch) -> Text:
    name, note = tree.words_of(branch)
    return Text.assemble((name, _STYLES[branch.kind]), (f"  {note}" if note else "", "dim"))


_STYLES: Mapping[NodeKind, str] = {
    "command": "bold blue",
    "query": "bold cyan",
    "handler": "default",
    "event": "yellow",
    "notification": "green",
    "topic": "bold green",
    "group": "bold magenta",
}
