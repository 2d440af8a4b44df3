"""The page of what waits, who works it, and which processes live."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from headrace.dashboard.live import Live, Now
from headrace.dashboard.reading import Unreadable
from headrace.dashboard.site import Site
from headrace.health import Health
from headrace.storage import Backlog, group_queue, outbox_queue


@dataclass(frozen=True, slots=True)
class Line:
    """One queue.

    Args:
        queue: its name.
        backlog: what is stored in it; None if it is not known.
        behind: messages of the topic still to be read; None if that is not known, or if there is no topic.
        owners: how many partitions each process works.
        ownerless: the partitions that nobody works now.
    """

    queue: str
    backlog: Backlog | None
    behind: int | None
    owners: tuple[tuple[str, int], ...]
    ownerless: tuple[int, ...]

    @property
    def partitions(self) -> int:
        """How many partitions it has."""
        return sum(count for _, count in self.owners) + len(self.ownerless)


async def page(live: Live, site: Site, request: Request) -> Response:
    """What waits, who works it, and which processes live."""
    now = await live.now()
    if now.problem is not None:
        raise Unreadable(now.problem)
    health: Health | None = await site.app.health() if site.app.running else None
    return site.page(
        request,
        "backlogs.html",
        now=now,
        status=now.status,
        lines=lines_of(site, now),
        worked=_worked(now),
        health=health,
        only_sends=site.app.running and site.app.describe().roles == ("send",),
    )


def lines_of(site: Site, now: Now) -> list[Line]:
    """A line for each queue of the app, in the order of the flow."""
    status = now.status
    if status is None:
        return []
    backlogs: dict[str, tuple[Backlog | None, int | None]] = {}
    if status.outbox is not None:
        backlogs[outbox_queue(site.app.name)] = (status.outbox, None)
    for group in status.groups:
        backlogs[group_queue(group.group, group.topic)] = (group.backlog, group.behind)
    owned = {one.queue: one for one in status.ownership}
    lines: list[Line] = []
    for queue in dict.fromkeys([*backlogs, *owned]):
        backlog, behind = backlogs.get(queue, (None, None))
        if queue.startswith("after:") and status.after_commit is not None:
            backlog = status.after_commit.backlog
        owners: Counter[str] = Counter()
        ownerless: tuple[int, ...] = ()
        if queue in owned:
            owners.update(one for one in owned[queue].owners.values() if one is not None)
            ownerless = owned[queue].ownerless
        lines.append(Line(queue, backlog, behind, tuple(owners.most_common()), ownerless))
    return lines


def _worked(now: Now) -> dict[str, int]:
    """How many partitions each process works, of all queues."""
    found: Counter[str] = Counter()
    if now.status is not None:
        for one in now.status.ownership:
            found.update(owner for owner in one.owners.values() if owner is not None)
    return found
