"""How the picture of a flow looks: one style sheet, light and dark. A page that holds the picture may set its variables."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
.headrace-flow {
  --flow-back: #ffffff; --flow-card: #ffffff; --flow-edge: #d5dae1; --flow-text: #1c2430; --flow-soft: #5d6877;
  --flow-line: #9aa5b4; --flow-command: #2a63d0; --flow-query: #55657a; --flow-event: #a96500; --flow-topic: #0b7d5b;
  --flow-group: #7545c7; --flow-bad: #c62f35; --flow-tint: 9%;
  font-family: ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif;
}
@media (prefers-color-scheme: dark) {
  .headrace-flow {
    --flow-back: #0e131a; --flow-card: #151c26; --flow-edge: #313c4b; --flow-text: #e5ebf2; --flow-soft: #97a4b5;
    --flow-line: #647287; --flow-command: #79a8ff; --flow-query: #a3b1c4; --flow-event: #f0b04f; --flow-topic: #4ccfa2;
    --flow-group: #bb98ff; --flow-bad: #ff7b7f; --flow-tint: 14%;
  }
}
.headrace-flow .back { fill: var(--flow-back); stroke: var(--flow-edge); }
.headrace-flow text { fill: var(--flow-text); font-size: 12px; }
.headrace-flow .app { font-size: 16px; font-weight: 650; }
.headrace-flow .soft, .headrace-flow .label { fill: var(--flow-soft); font-size: 10px; }
.headrace-flow .app + .soft, .headrace-flow .missing { font-size: 12px; }
.headrace-flow .figure { fill: var(--flow-text); font-size: 10px; font-variant-numeric: tabular-nums; }
.headrace-flow .figure.bad { fill: var(--flow-bad); font-weight: 600; }
.headrace-flow .title { font-size: 13px; font-weight: 600; }
.headrace-flow .kind { fill: var(--kind); font-size: 10px; }
.headrace-flow .command { --kind: var(--flow-command); }
.headrace-flow .query { --kind: var(--flow-query); }
.headrace-flow .event { --kind: var(--flow-event); }
.headrace-flow .topic { --kind: var(--flow-topic); }
.headrace-flow .group { --kind: var(--flow-group); }
.headrace-flow .card { fill: var(--flow-card); stroke: var(--flow-edge); }
.headrace-flow .head { fill: var(--kind); fill-opacity: var(--flow-tint); }
.headrace-flow .mark { fill: var(--kind); }
.headrace-flow .inner { fill: none; stroke: var(--flow-edge); }
.headrace-flow .wire { fill: none; stroke: var(--flow-line); stroke-width: 1.4; }
.headrace-flow .wire.outbox, .headrace-flow .wire.publishes { stroke: var(--flow-topic); }
.headrace-flow .wire.inbox, .headrace-flow .wire.consumes { stroke: var(--flow-group); }
.headrace-flow .point { fill: var(--flow-line); }
.headrace-flow .outbox .point, .headrace-flow .publishes .point { fill: var(--flow-topic); }
.headrace-flow .inbox .point, .headrace-flow .consumes .point { fill: var(--flow-group); }
.headrace-flow a { cursor: pointer; }
.headrace-flow a:hover .title, .headrace-flow a:hover .name { text-decoration: underline; }
.headrace-flow a:focus-visible { outline: 2px solid var(--flow-command); outline-offset: 2px; }
""".strip()
"""Nothing outside an element of the class `headrace-flow` is touched."""
