"""The container seam: where dependencies come from. The container is dishka; the adapter is in `container/dishka.py`.

Another dependency-injection library joins by implementing `Container` and `Scope`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from headrace.envelope import Envelope

__all__ = ["Container", "Lifetime", "RunningUnit", "Scope"]


class Lifetime(enum.Enum):
    """How long a dependency lives."""

    APP = "app"
    """One object, the same for every send; fetched once at start."""
    REQUEST = "request"
    """One object per send."""


class RunningUnit(Protocol):
    """What a request scope can see of the unit of work that it was opened for."""

    @property
    def envelope(self) -> Envelope:
        """The envelope of the request or event being handled."""
        ...

    @property
    def mediator(self) -> object:
        """The mediator that runs the unit; its `send` joins the unit."""
        ...

    @property
    def context(self) -> Mapping[type, object]:
        """Objects by type that whoever opened the unit brings into its scope, such as a web request; mostly none."""
        ...

    def provide(self, kind: type) -> object:
        """An object that the storage provides from the running transaction, such as the session."""
        ...


class Scope(Protocol):
    """The dependencies of one unit of work."""

    async def get(self, key: object) -> object:
        """The dependency for an annotation; built at first use, the same object after that."""
        ...

    async def close(self, error: BaseException | None) -> None:
        """Finalize what was built, telling generators of `error`."""
        ...


class Container(Protocol):
    """A source of dependencies. Used by one event loop at a time."""

    def lifetime(self, key: object) -> Lifetime | None:
        """How long the dependency for this annotation lives, or None if nothing provides it."""
        ...

    def faults(self, needs: Iterable[tuple[str, object]]) -> list[str]:
        """What stands in the way of building what is needed: one sentence a fault, with the path to it drawn.

        Each need is who needs it (with file:line) and the annotation.
        """
        ...

    async def start(self) -> None:
        """Make ready; dependencies of lifetime APP are built after this."""
        ...

    async def stop(self) -> None:
        """Finalize dependencies of lifetime APP. Can be started again."""
        ...

    async def get(self, key: object) -> object:
        """A dependency of lifetime APP."""
        ...

    def scope(self, unit: RunningUnit) -> Scope:
        """The scope of one unit of work. Does no I/O."""
        ...
