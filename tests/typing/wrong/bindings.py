"""Handlers bound to what they cannot handle."""

from headrace import (
    Command,
    DomainEvent,
    EventHandler,
    EventMap,
    Module,
    Query,
    RequestHandler,
    RequestMap,
)


class Join(Command[None]):
    user_id: str


class Leave(Command[None]):
    user_id: str


class Count(Query[int]): ...


class Joined(DomainEvent): ...


class Left(DomainEvent): ...


class JoinHandler(RequestHandler[Join, None]):
    async def handle(self, request: Join) -> None: ...


class CountsText(RequestHandler[Count, str]):
    async def handle(self, query: Count) -> str:
        return "1"


class MaybeCounts(RequestHandler[Count, int | None]):
    async def handle(self, query: Count) -> int | None:
        return None


class OnJoined(EventHandler[Joined]):
    async def handle(self, event: Joined) -> None: ...


class OnJoin(EventHandler[Join]):
    async def handle(self, event: Join) -> None: ...


class NoHandler:
    async def handle(self, message: str) -> None: ...


async def join(request: Join) -> None: ...


async def count_text(query: Count) -> str:
    return "1"


async def on_joined(event: Joined) -> None: ...


async def answers(event: Joined) -> int:
    return 1


async def nothing() -> None: ...


def sync(request: Join) -> None: ...


requests = RequestMap()
requests.bind(Leave, JoinHandler)  # E: JoinHandler
requests.bind(Count, CountsText)  # E: CountsText
requests.bind(Count, MaybeCounts)  # E: MaybeCounts
requests.bind(Join, OnJoin)  # E: OnJoin
requests.bind(Joined, OnJoined)  # E: Joined
requests.bind(Join, NoHandler)  # E: NoHandler
requests.bind(Join, JoinHandler())  # E: JoinHandler
requests.bind(Leave, join)  # E: Leave
requests.bind(Count, count_text)  # E: str
requests.bind(Join, nothing)  # E:
requests.bind(Join, sync)  # E: Awaitable
requests.bind(Join, join, phase="after_commit")  # E: phase

events = EventMap()
events.bind(Left, OnJoined)  # E: OnJoined
events.bind(Left, on_joined)  # E: Left
events.bind(Joined, answers)  # E: int
events.bind(Joined, JoinHandler)  # E: JoinHandler
events.bind(Joined, OnJoined())  # E: OnJoined
events.bind(Joined, on_joined, phase="later")  # E: later
events.bind(Joined, on_joined, raises=Left)  # E: Left

module = Module("meetings")
module.bind(Leave, JoinHandler)  # E: JoinHandler
module.bind(Count, count_text)  # E: str
module.bind(Join, OnJoin)  # E: OnJoin
module.bind(Left, OnJoined)  # E: OnJoined
module.bind(Joined, answers)  # E: int
module.handler(sync)  # E: handler
module.handler(NoHandler)  # E: NoHandler
module.handler(kind="command")  # E: command
