"""The flow of an app as a Mermaid diagram, for pages that draw it themselves: GitHub, GitLab, MkDocs."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.drawing.graph import Graph, NodeKind

_SHAPES: Mapping[NodeKind, tuple[str, str]] = {
    "command": ("[", "]"),
    "query": ("[", "]"),
    "handler": ("(", ")"),
    "event": ("([", "])"),
    "notification": (">", "]"),
    "topic": ("[(", ")]"),
    "group": ("[[", "]]"),
}
_COLOURS: Mapping[NodeKind, str] = {
    "command": "#3b6fd4",
    "query": "#64748b",
    "handler": "#8b93a1",
    "event": "#c47f17",
    "notification": "#1f9d6b",
    "topic": "#1f9d6b",
    "group": "#8a5cd6",
}


def text_of(graph: Graph) -> str:
    """A `flowchart`. Source: the syntax of Mermaid 11."""
    names = {node: f"n{number}" for number, node in enumerate(graph.nodes)}
    lines = ["flowchart LR"]
    if graph.missing:
        lines.append(f"  %% {graph.missing}")
    for node in graph.nodes.values():
        opens, closes = _SHAPES[node.kind]
        note = f"<br/><small>{_safe(node.note)}</small>" if node.note else ""
        lines.append(f'  {names[node.id]}{opens}"{_safe(node.name)}{note}"{closes}:::{node.kind}')
    for edge in graph.edges:
        label = f'|"{_safe(edge.label)}"|' if edge.label else ""
        lines.append(f"  {names[edge.source]} -->{label} {names[edge.target]}")
    used: dict[NodeKind, None] = dict.fromkeys(node.kind for node in graph.nodes.values())
    # Only the border has a colour: the page's theme, light or dark, has the rest.
    lines += [f"  classDef {kind} stroke:{_COLOURS[kind]},stroke-width:2px" for kind in used]
    return "\n".join(lines) + "\n"


def _safe(text: str) -> str:
    """Mermaid's own escapes: it reads `#quot;` and `#lt;` as characters."""
    for character, name in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;")):
        text = text.replace(character, name)
    return " ".join(text.split())
