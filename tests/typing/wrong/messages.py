"""Messages made, handled and sent wrongly."""

from headrace import (
    Command,
    DomainEvent,
    Headrace,
    NotificationEvent,
    Query,
    RequestHandler,
    notification,
)


class Join(Command[None]):
    user_id: str


class Count(Query[int], kw_only=True):
    meeting_id: str


class Joined(DomainEvent):
    user_id: str


class Untyped(NotificationEvent, topic="meetings"):  # E: type
    user_id: str


class BadKey(NotificationEvent, type="a.b.v1", topic="a", key=3):  # E: key
    user_id: str


class Unknown(Command[None], colour="red"):  # E: colour
    user_id: str


class Announced(NotificationEvent, type="a.b.v1", topic="a"):
    user_id: str


@notification(type="a.b.v1")  # E: topic
class Sent: ...


class Handler(RequestHandler[Join, None]):
    async def handle(self, request: Count) -> None:  # E: handle
        self.events.append(request)  # E: Count
        self.events = []  # E: events


class Answers(RequestHandler[Join, None]):
    async def handle(self, request: Join) -> int:  # E: handle
        return 1


Join(1)  # E: str
Join()  # E: user_id
Count("m1")  # E: positional
Joined("u1").user_id = "u2"  # E: user_id
Announced(user="u1")  # E: user


async def send(app: Headrace) -> None:
    text: str = await app.send(Count(meeting_id="m1"))  # E: int
    await app.send(Joined("u1"))  # E: Joined
    await app.send(Join)  # E: Join
    await app.send(Join("u1"), metadata={"tenant": 3})  # E: int
    (await app.send(Count(meeting_id="m1"))).upper()  # E: upper
    print(text)
