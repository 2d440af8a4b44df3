"""Drawings of an app's flow, all made from `app.describe()`: a tree, Mermaid, SVG. Nothing here needs another package."""

from __future__ import annotations

from headrace.drawing.graph import Edge, Graph, Node, graph_of

__all__ = ["Edge", "Graph", "Node", "graph_of"]
