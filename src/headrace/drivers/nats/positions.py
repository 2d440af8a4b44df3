"""How far groups have settled, remembered on the server: for readers that keep no position in a storage."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, cast

from headrace.drivers.nats.link import NO_RESPONDERS, ApiError, from_base64
from headrace.drivers.nats.publishing import Batch, Outgoing, refusals
from headrace.errors import BrokerUnavailable

if TYPE_CHECKING:
    from headrace.drivers.nats.link import Link
    from headrace.drivers.nats.names import Names
    from headrace.drivers.nats.topology import Topology

WRITE_SECONDS: Final = 1.0
"""A position is written at most so often: it is a hint, the positions that count stand in storage."""

_NOT_FOUND: Final = 404

Place = tuple[str, str, int]
"""A group, a topic, a partition."""


class Positions:
    """The positions of groups, in a key-value bucket.

    Args:
        names: of the bucket and its keys.
        topology: makes the bucket if it is missing.
    """

    def __init__(self, names: Names, topology: Topology) -> None:
        self._names = names
        self._topology = topology
        self._known: dict[Place, str | None] = {}
        self._unwritten: dict[Place, str] = {}
        self._writing = asyncio.Lock()

    def settle(self, place: Place, position: str) -> None:
        """The group has handled all up to this position."""
        if self._known.get(place) != position:
            self._known[place] = position
            self._unwritten[place] = position

    @property
    def unwritten(self) -> bool:
        """Something is unwritten."""
        return bool(self._unwritten)

    async def get(self, link: Link, place: Place) -> str | None:
        """The position that was settled last, by this process or another one, or None."""
        if place not in self._known:
            self._known[place] = await self._fetch(link, place)
        return self._known[place]

    def forget(self, places: Iterable[Place]) -> None:
        """Others may settle these from now on."""
        for place in places:
            self._known.pop(place, None)
            self._unwritten.pop(place, None)

    async def write(self, link: Link) -> None:
        """Write what is unwritten, with one wait. What could not be written is written next time."""
        async with self._writing:
            places = dict(self._unwritten)
            if not places:
                return
            refused = await self._put(link, places)
            if self._topology.makes and any(
                error.status == NO_RESPONDERS for error in refused.values()
            ):
                await self._topology.make_bucket(link)
                refused = await self._put(link, places)
            if refused:
                raise BrokerUnavailable(
                    f"the NATS server {link.address} does not take positions into the bucket {self._names.bucket!r}: "
                    f"{refusals(refused)}"
                )
            for place, position in places.items():
                if self._unwritten.get(place) == position:
                    del self._unwritten[place]

    async def _put(self, link: Link, places: Mapping[Place, str]) -> Mapping[int, ApiError]:
        batch = Batch()
        puts = [
            Outgoing(self._names.position_subject(*place), {}, position.encode(), 64)
            for place, position in places.items()
        ]
        await batch.send(link, list(enumerate(puts)))
        return batch.refused

    async def _fetch(self, link: Link, place: Place) -> str | None:
        subject = self._names.position_subject(*place)
        try:
            answer = await link.request(
                f"STREAM.MSG.GET.KV_{self._names.bucket}", {"last_by_subj": subject}
            )
        except ApiError as error:
            if error.status == _NOT_FOUND:
                return None
            raise BrokerUnavailable(
                f"the NATS server {link.address} does not give the position at {subject!r}: {error}"
            ) from error
        message = cast("Mapping[str, str]", answer["message"])
        return from_base64(message.get("data", "")).decode("utf-8", "replace") or None
