"""The pytest plugin as a user has it: a project of its own, run by pytest in a process of its own, on real servers."""

from __future__ import annotations

import asyncio
import re
import secrets
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiormq
import nats
import pytest
from confluent_kafka.admin import AdminClient
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.servers import engine

APP = """
from headrace import Command, Events, Headrace, Module, NotificationEvent, Retry, Subscription
from headrace.drivers.sql import SqlStorage
from sqlalchemy import Column, MetaData, String, Table, insert
from sqlalchemy.ext.asyncio import AsyncSession

metadata = MetaData()
members = Table("members", metadata, Column("name", String(20), primary_key=True))


class Join(Command[None]):
    user: str


class Joined(NotificationEvent, type="plugin.joined.v1", topic="joined", key="user"):
    user: str


module = Module("plugin")


@module.handler
async def join(request: Join, events: Events) -> None:
    events.append(Joined(request.user))


@module.handler
async def welcome(event: Joined, session: AsyncSession) -> None:
    await session.execute(insert(members).values(name=event.user))
    if event.user == "poison":
        raise ValueError("cannot")


app = Headrace(
    "plugin",
    modules=[module],
    storage=SqlStorage("sqlite+aiosqlite:///production.db", metadata=metadata),
    broker="memory://",
    subscriptions=[Subscription(retry=Retry(attempts=3, initial_seconds=3600, max_seconds=1e5))],
)
"""

TESTS = """
from sqlalchemy import text

from app import Join, Joined, app, welcome


async def test_it_flows(harness):
    async with harness(app) as h:
        await h.send(Join("u1"))
        await h.send(Join("poison"))
        await h.settle()
        assert h.published(Joined, key="u1") == [Joined("u1")]
        assert h.handled_by(welcome) == [Joined("u1")]
        assert h.retried(welcome) == [Joined("poison")] * 2
        assert len(h.dead_letters) == 1
        print("ON", h.app.storage.database.dialect.backend, h.app.broker._inner)
        print("IN", h.app.storage.database.engine.url.database)
"""

FAILING = """
from app import Join, Joined, app


async def test_it_fails(harness):
    async with harness(app) as h:
        await h.send(Join("u1"))
        await h.settle()
        assert h.published(Joined) == [Joined("u2")]
"""

ANYIO = """
import pytest

from app import Join, Joined, app

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def test_it_flows(harness):
    async with harness(app) as h:
        await h.send(Join("u1"))
        await h.settle()
        assert h.published(Joined) == [Joined("u1")]
"""


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., str]:
    """A project with an app and tests; call it to run pytest there, and get what that printed."""
    (tmp_path / "app.py").write_text(APP)

    def run(tests: str, *options: str, exit_code: int = 0) -> str:
        (tmp_path / "test_app.py").write_text(tests)
        (tmp_path / "pytest.ini").write_text(
            "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\npythonpath = .\n"
            "filterwarnings = error\n"
        )
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == exit_code, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize(
    ("storage", "broker"),
    [
        ("postgresql", "rabbitmq"),
        ("mariadb", "redis"),
        ("postgresql", "nats"),
        ("mariadb", "kafka"),
    ],
)
async def test_the_same_tests_run_on_real_servers(
    project: Callable[..., str], storage: str, broker: str
) -> None:
    """By one option each, the tests run on a database and a broker, and nothing of theirs stays there."""
    databases, names = engine(storage).url, engine(broker).url
    prefix = f"t{secrets.token_hex(4)}-"  # other tests run on these servers at the same time
    options = (f"--headrace-storage={databases}", f"--headrace-broker={names}?prefix={prefix}")
    printed = await asyncio.to_thread(project, TESTS, "-s", *options)
    on = printed.partition("ON ")[2].lower()
    assert on.startswith({"mariadb": "mysql"}.get(storage, storage))
    assert f"{broker.removesuffix('mq')}broker" in on
    its_own = printed.partition("IN ")[2].split()[0]
    assert its_own.startswith("hr")
    assert its_own not in await databases_on(databases)
    assert not await names_on(broker, names, prefix)


def test_the_options_may_stand_in_the_configuration(project: Callable[..., str]) -> None:
    """Without options memory and a file of SQLite serve; headrace_storage in pytest.ini does as the option."""
    assert "sqlite" in project(TESTS, "-s")
    url = engine("postgresql").url
    assert "postgresql" in project(TESTS, "-s", "-o", f"headrace_storage={url}")


def test_the_options_hold_for_harnesses_made_by_hand(project: Callable[..., str]) -> None:
    """A test that imports the class runs on the same servers, which the head of the report names without the password."""
    by_hand = TESTS.replace("(harness)", "()").replace("with harness(", "with Harness(")
    url = engine("postgresql").url.replace("postgres@", "postgres:secret@")
    printed = project(
        f"from headrace.testing import Harness\n{by_hand}", "-s", f"--headrace-storage={url}"
    )
    assert "ON postgresql" in printed
    assert "headrace: harnesses run on storage postgresql" in printed
    assert "secret" not in printed


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (
            "postgresql+asyncpg://postgres@localhost:1/x",
            "HR030.*cannot 'CREATE DATABASE.*localhost:1/x",
        ),
        ("postgresql://localhost/x", r"HR004.*Did you mean 'postgresql\+asyncpg://'"),
    ],
)
def test_a_server_that_cannot_be_used_is_told_without_the_drivers_traceback(
    project: Callable[..., str], url: str, told: str
) -> None:
    """The reason is what a test's report ends with."""
    printed = project(TESTS, f"--headrace-storage={url}", "--tb=short", exit_code=1)
    assert re.search(told, printed)
    assert "asyncpg/connect" not in printed


def test_a_failed_test_shows_the_flow_once(project: Callable[..., str]) -> None:
    """The assertion tells what is missing, and the flow that did happen stands below the traceback."""
    printed = project(FAILING, exit_code=1)
    told = """\
        E           AssertionError: assert published(Joined) has others than these
        E             missing: Joined(user='u2')
        E             besides: Joined(user='u1')
        """
    assert textwrap.indent(textwrap.dedent(told), "") in printed
    flow = """\
        Join(user='u1')  by join
        └─ Joined(user='u1')  -> topic joined, key 'u1'
           └─ plugin: welcome
        """
    assert printed.count(textwrap.dedent(flow)) == 1
    assert "-- Headrace flow of plugin --" in printed


def test_anyio_runs_it_as_well(project: Callable[..., str]) -> None:
    """The fixture is no async fixture: with anyio's plugin instead of pytest-asyncio it works the same."""
    project(ANYIO, "-p", "no:asyncio", "-o", "addopts=", "-W", "ignore::pytest.PytestConfigWarning")


def test_the_plugin_imports_nothing_until_it_is_used(project: Callable[..., str]) -> None:
    """A project that does not use it pays for `import headrace` alone: no harness, no driver, no SQLAlchemy."""
    tests = """
    import sys

    def test_nothing():
        assert "headrace.testing.plugin" in sys.modules
        heavy = ("headrace.testing.harness", "headrace.drivers", "sqlalchemy", "dishka", "pydantic")
        assert not [name for name in heavy if name in sys.modules]
    """
    project(textwrap.dedent(tests))


async def databases_on(url: str) -> set[str]:
    """The databases that harnesses have made on a server."""
    of_a_harness = {
        "postgresql": "select datname from pg_database where datname like 'hr%'",
        "mysql": "select schema_name from information_schema.schemata where schema_name like 'hr%'",
    }
    made = create_async_engine(url)
    try:
        async with made.connect() as connection:
            found = await connection.execute(text(of_a_harness[url.partition("+")[0]]))
            return {str(name) for name in found.scalars()}
    finally:
        await made.dispose()


async def names_on(broker: str, url: str, prefix: str) -> set[str]:
    """What stands on a broker under a prefix, as far as its protocol tells."""
    if broker == "redis":
        async with Redis.from_url(url) as client:
            return {key.decode() async for key in client.scan_iter(f"{prefix}*")}
    if broker == "nats":
        client: Any = await nats.connect(url)
        try:
            found = [str(one.config.name) for one in await client.jsm().streams_info()]
        finally:
            await client.close()
        return {name for name in found if name.removeprefix("KV_").startswith(prefix)}
    if broker == "kafka":
        admin = AdminClient({"bootstrap.servers": urlsplit(url).netloc})
        topics = await asyncio.to_thread(lambda: admin.list_topics(timeout=10).topics)
        return {name for name in topics if name.startswith(prefix)}
    # The protocol lists nothing; that what was made is gone is tested by name.
    async with aiormq.connect(url) as connection:
        assert not connection.is_closed
    return set()


async def test_rabbitmq_is_left_as_it_was() -> None:
    """The exchange, the record of its partitions and the queues of a harness are deleted."""
    from headrace.drivers.rabbitmq.names import Names
    from headrace.testing import Harness
    from tests.unit.heart import Announced, Join, make_app, raising

    url = engine("rabbitmq").url
    handled = raising()
    app = make_app(
        (Join, raising(Announced("u1"))),
        (Announced, handled),
        storage="memory://",
        broker="memory://",
    )
    async with Harness(app, broker=url) as h:
        await h.send(Join())
        await h.settle()
        assert h.handled_by(handled) == [Announced("u1")]
        names: Names = h.app.broker._inner._names  # type: ignore[union-attr]  # what it is called there
        async with aiormq.connect(url) as connection:
            channel = await connection.channel()
            await channel.queue_declare(names.record("meetings"), passive=True)
    for name in (names.record("meetings"), names.queue("meetings", "meetings", 0)):
        async with aiormq.connect(url) as connection:
            channel = await connection.channel()
            with pytest.raises(aiormq.exceptions.ChannelNotFoundEntity):
                await channel.queue_declare(name, passive=True)
