"""The order of the modules: the one table to extend when a module joins.

A row is a tuple of names below `headrace`; a name covers the module or the whole package of that name. A module may
import from its own row and from the rows before it, in any case without a cycle. So a new module goes into the first
row that stands after everything that it imports; make a row of its own when it needs one.
"""

from __future__ import annotations

from typing import Final

# The core: imports no driver, no integration, and no third party but THIRD_PARTY.
CORE: Final[tuple[tuple[str, ...], ...]] = (
    ("errors", "telemetry", "backoff", "generics", "limits", "ids", "plain_calls", "text", "urls"),
    ("messages", "notifications", "envelope", "wire", "codec", "sensitive"),
    ("broker", "stored", "inspection", "storage", "subscriptions", "topics", "tracing"),
    ("handlers", "bindings", "maps", "module", "middleware", "signatures", "responses"),
    ("container", "injection"),
    ("causes", "learnt", "recorder", "watching", "underway", "runners", "dispatcher", "emitter"),
    ("unit_of_work", "units", "mediator", "open_unit"),
    (
        "worker",
        "leases",
        "relay",
        "consumer",
        "repairs",
        "dead_letters",
        "retention",
        "health",
        "logs",
    ),
    ("description", "assembly", "app"),
    ("explaining", "redaction", "asyncapi"),
    ("saga", "scheduler"),
)

# What stands around the core. "" is headrace/__init__.py, which gathers the public names of the core.
AROUND: Final[tuple[tuple[str, ...], ...]] = (
    ("",),
    ("testing", "drivers", "integrations", "drawing"),
    ("cli", "dashboard", "__main__"),
)

ROWS: Final = CORE + AROUND

# Third parties that every module of the core may import, at its top too.
THIRD_PARTY: Final = frozenset({"msgspec"})

# Third parties that only these may import, and only inside functions: they are slow to import.
LAZY_THIRD_PARTY: Final = {"dishka": ("container",), "opentelemetry": ("telemetry",)}

# What the core may name for type checkers alone, below `if TYPE_CHECKING:`.
TYPING_THIRD_PARTY: Final = THIRD_PARTY | {"dishka", "opentelemetry", "typing_extensions"}
