"""`headrace worker` as processes: what it does, how it stops, and what its exit codes tell."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from headrace import Headrace
from headrace.cli.stopping import ECHO_SECONDS
from tests.e2e.processes import Process, starting

SHOP = """
    import asyncio, os, time
    from pathlib import Path

    from headrace import Command, Events, Headrace, Limits, Module, NotificationEvent

    class Place(Command[None]):
        number: int

    class Placed(NotificationEvent, type="shop.placed.v1", topic="orders", key="number"):
        number: int

    shop = Module("shop")

    @shop.handler
    async def place(request: Place, events: Events) -> None:
        events.append(Placed(request.number))

    packing = Module("packing")

    @packing.handler
    async def pack(event: Placed) -> None:
        print("begun", event.number, os.getpid(), flush=True)
        if Path("block").exists():
            time.sleep(60)
        while Path("wait").exists():
            await asyncio.sleep(0.01)
        print("packed", event.number, flush=True)

    def make(roles=("send", "relay", "consume")) -> Headrace:
        return Headrace(
            "shop",
            modules=[shop, packing],
            storage="sqlite+aiosqlite:///shop.db",
            broker="sql://",
            roles=roles,
            limits=Limits(
                lease_seconds=2, poll_seconds=0.05, drain_seconds=float(os.environ.get("DRAIN", 10))
            ),
        )

    app = make()
"""

SEND = """
    import asyncio, sys
    import shop

    async def main() -> None:
        async with shop.make(roles={"send"}) as app:
            for number in sys.argv[1:]:
                await app.send(shop.Place(int(number)))

    asyncio.run(main())
"""


Start = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts Python in a folder that has shop.py and send.py; ends what still runs."""
    (tmp_path / "shop.py").write_text(textwrap.dedent(SHOP))
    (tmp_path / "send.py").write_text(textwrap.dedent(SEND))
    async with starting(tmp_path) as run:
        yield run


async def send(start: Start, *numbers: int) -> None:
    sender = await start("send.py", *map(str, numbers))
    assert await sender.ends() == 0, sender.output


def worker(start: Start, *options: str, **environment: str) -> Awaitable[Process]:
    return start("-m", "headrace", "worker", "shop:app", *options, **environment)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains(start: Start, tmp_path: Path, number: int) -> None:
    """G10: what is in flight when the signal comes is finished, and the exit code is 0."""
    (tmp_path / "wait").touch()
    await send(start, 1)
    one = await worker(start)
    await one.until(r"this worker relays its outbox and consumes as group 'shop'")
    await one.until("begun 1 ")
    one.signal(number)
    (tmp_path / "wait").unlink()
    assert await one.ends() == 0, one.output
    assert "packed 1" in one.output
    assert "shop has stopped" in one.output


async def test_a_drain_that_is_cut_off_is_told_and_loses_nothing(
    start: Start, tmp_path: Path
) -> None:
    """G10: what does not end within `drain_seconds` gives exit code 4, and the next worker does it."""
    (tmp_path / "wait").touch()
    await send(start, 1)
    one = await worker(start, DRAIN="0.1")
    await one.until("begun 1 ")
    one.signal(signal.SIGTERM)
    assert await one.ends() == 4, one.output
    (tmp_path / "wait").unlink()
    two = await worker(start)
    await two.until("packed 1")
    two.signal(signal.SIGTERM)
    assert await two.ends() == 0, two.output
    assert (one.output + two.output).count("packed 1") == 1


@pytest.mark.parametrize("obstacle", ["wait", "block"])
async def test_a_second_signal_stops_at_once(start: Start, tmp_path: Path, obstacle: str) -> None:
    """It does not wait for the drain, also when a handler blocks the event loop; nothing is lost."""
    (tmp_path / obstacle).touch()
    await send(start, 1)
    one = await worker(start, DRAIN="1000")
    await one.until("begun 1 ")
    one.signal(signal.SIGTERM)
    one.signal(signal.SIGINT)  # at the same time: the same wish
    ending = asyncio.create_task(one.ends())
    done, _ = await asyncio.wait({ending}, timeout=ECHO_SECONDS * 2)
    assert not done
    one.signal(signal.SIGTERM)
    assert await ending == 4, one.output
    assert "stopped at once by a second signal" in one.output
    (tmp_path / obstacle).unlink()
    two = await worker(start)
    await two.until("packed 1")


async def test_a_process_that_hangs_while_stopping_is_ended(start: Start, tmp_path: Path) -> None:
    """A handler that blocks the event loop cannot keep the process for ever."""
    (tmp_path / "block").touch()
    await send(start, 1)
    one = await start(
        "-c",
        "import headrace.cli.stopping as s; s.GRACE_SECONDS = 0.3; import headrace.cli; headrace.cli.main()",
        *("worker", "shop:app"),
        DRAIN="0.1",
    )
    await one.until("begun 1 ")
    one.signal(signal.SIGTERM)
    assert await one.ends() == 4, one.output
    assert "ended all the same" in one.output


async def test_roles_are_split_across_three_processes(start: Start) -> None:
    """One process sends, one relays, one consumes: nothing else is needed, and each does its own alone."""
    await send(start, 1, 2)
    consumes = await worker(start, "--only", "consume")
    await consumes.until("this worker consumes as group 'shop'")
    relays = await worker(start, "--only", "relay")
    await consumes.until("packed 2")
    await send(start, 3)
    await consumes.until("packed 3")
    for one in (relays, consumes):
        one.signal(signal.SIGTERM)
        assert await one.ends() == 0, one.output
    assert "this worker relays its outbox." in relays.output
    assert "begun" not in relays.output
    assert "relays" not in consumes.output


async def test_an_app_of_the_web_tier_is_taken_over_in_other_roles(
    start: Start, tmp_path: Path
) -> None:
    """The worker sets the roles: the app object may be the one with which the web process only sends."""
    (tmp_path / "web.py").write_text("import shop\napp = shop.make(roles={'send'})\n")
    await send(start, 1)
    one = await start("-m", "headrace", "worker", "web:app")
    await one.until("packed 1")


async def test_probes_are_answered(start: Start) -> None:
    """Section 2: a worker has no web server, and tells an orchestrator all the same that it lives and is ready."""
    one = await worker(start, "--health", "127.0.0.1:0")
    port = (await one.until(r"/live and /ready are answered at 127.0.0.1:(\d+)"))[1]
    await one.until("this worker relays")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as probe:
        live, ready = await probe.get("/live"), await probe.get("/ready")
    assert (live.status_code, ready.status_code) == (200, 200)
    assert ready.json()["roles"] == ["consume", "relay"]
    one.signal(signal.SIGTERM)
    assert await one.ends() == 0, one.output


async def test_several_processes_do_not_answer_for_one(start: Start) -> None:
    """One address cannot tell of several processes, of which one may be ready and another not."""
    one = await worker(start, "--processes", "2", "--health", "127.0.0.1:0")
    assert await one.ends() == 2, one.output
    assert "--health answers for one process" in one.output


async def test_a_dead_process_is_started_again(start: Start) -> None:
    """With `--processes` a killed one is replaced, the others go on, and a signal drains all."""
    one = await worker(start, "--processes", "2")
    first = await one.until(r"Process 1 of 2 has started \(pid (\d+)\)")
    await one.until(r"(?s)(this worker relays.*){2}")
    os.kill(int(first[1]), signal.SIGKILL)
    await one.until("Process 1 of 2 has ended by SIGKILL; another one starts in 0.1 s")
    await one.until(r"(?s)(this worker relays.*){3}")
    await send(start, 1)
    await one.until("packed 1")
    one.signal(signal.SIGTERM)
    assert await one.ends() == 0, one.output
    assert one.output.count("shop has stopped") == 2


async def test_processes_drain_when_their_parent_is_killed(start: Start, tmp_path: Path) -> None:
    """They are not left behind by a parent that cannot tell them to stop."""
    one = await worker(start, "--processes", "2")
    await one.until(r"(?s)(this worker relays.*){2}")
    (tmp_path / "wait").touch()
    await send(start, 1)
    await one.until("begun 1 ")
    one.signal(signal.SIGKILL)
    (tmp_path / "wait").unlink()
    assert await one.ends() == -signal.SIGKILL  # their output ends when both have ended
    assert "packed 1" in one.output
    assert one.output.count("shop has stopped") == 2


async def test_processes_that_are_stopped_before_they_have_begun_have_lost_nothing(
    start: Start,
) -> None:
    """A signal to the whole group, as from a terminal, may come while they still import: that is no cut."""
    one = await worker(start, "--processes", "2")
    pids = [
        int((await one.until(rf"Process {n} of 2 has started \(pid (\d+)\)"))[1]) for n in (1, 2)
    ]
    one.signal(signal.SIGTERM)
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    assert await one.ends() == 0, one.output


async def test_several_processes_that_are_cut_off_tell_so(start: Start, tmp_path: Path) -> None:
    """The exit code of all is 4 if one of them did not end its work; a second signal kills all."""
    one = await worker(start, "--processes", "2", DRAIN="0.1")
    await one.until(r"(?s)(this worker relays.*){2}")
    (tmp_path / "wait").touch()
    await send(start, 1)
    await one.until("begun 1 ")
    one.signal(signal.SIGTERM)
    assert await one.ends() == 4, one.output
    two = await worker(start, "--processes", "2", DRAIN="1000")
    await two.until("begun 1 ")
    two.signal(signal.SIGTERM)
    ending = asyncio.create_task(two.ends())
    await asyncio.wait({ending}, timeout=ECHO_SECONDS * 2)
    two.signal(signal.SIGTERM)
    assert await ending == 4, two.output


WRONG = {
    "unwired": 'app = Headrace("a", modules=[m], storage="memory://", broker="memory://", providers=[])',
    "no_storage": 'app = Headrace("a", broker="memory://")',
    "nothing": 'app = Headrace("a")',
    "bad_url": 'app = Headrace("a", storage="postgres://")',
    "raises": "1 / 0",
    "away": 'app = Headrace("a", storage="sqlite+aiosqlite:////no/such/folder/a.db", broker="sql://")',
}


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("worker unwired:app", 1, ["1 wiring fault", "Missing"]),
        ("worker unwired:app --processes 2", 1, ["1 wiring fault", "Missing"]),
        ("check unwired:app", 1, ["1 fault", "Missing"]),
        ("worker no_storage:app --only relay", 1, ["has no storage, so there is nothing to relay"]),
        ("worker nothing:app", 1, ["neither storage nor broker"]),
        ("worker bad_url:app", 1, ["bad_url:app could not be imported: [HR004]"]),
        ("worker raises:app", 1, ["ZeroDivisionError", "Traceback"]),
        ("worker away:app", 3, ["could not be started: [HR030]"]),
        ("worker shop:app --only send", 2, ["'send' is not one of 'relay', 'consume'"]),
        ("worker shop:app --processes 0", 2, ["--processes"]),
        ("worker shop:none", 2, ["shop has no 'none'. It has app."]),
        ("worker", 2, ["Usage"]),
        ("check shop:app", 0, ["the app 'shop' has no wiring faults"]),
        ("check shop:make()", 0, ["the app 'shop' has no wiring faults"]),
    ],
)
async def test_exit_codes_tell_what_is_wrong(
    start: Start, tmp_path: Path, command: str, code: int, words: list[str]
) -> None:
    """1 is a fault of the app, 2 of the command line, 3 a server that is away; each with what to do about it."""
    given = re.search(r"(\w+):", command)
    if given is not None and given[1] in WRONG:
        (tmp_path / f"{given[1]}.py").write_text(
            "from headrace import Headrace, Module, NotificationEvent\n"
            "class Missing: ...\n"
            "class Done(NotificationEvent, type='d', topic='t'): ...\n"
            "m = Module('m')\n"
            "@m.handler\n"
            "async def handle(event: Done, missing: Missing) -> None: ...\n"
            f"{WRONG[given[1]]}\n"
        )
    one = await start("-m", "headrace", *command.split())
    assert await one.ends() == code, one.output
    for word in words:
        assert word in one.output


async def test_without_typer_the_extra_is_named(start: Start) -> None:
    """The core's installation has no command line, and says how to get it."""
    one = await start(
        "-c", "import sys; sys.modules['typer'] = None; import headrace.cli; headrace.cli.main()"
    )
    assert await one.ends() == 1
    assert "pip install 'headrace[cli]'" in one.output


def test_the_app_that_is_restricted_stays_as_it_is() -> None:
    """A worker runs a twin in its roles: an app that another part of the process holds is not changed."""
    from headrace.cli.running import restricted

    app = Headrace("a", storage="memory://", broker="memory://", roles={"send"})
    twin, _ = restricted(app, ["relay"])
    assert twin is not app
    assert not app.running


async def test_an_interrupt_while_the_app_is_imported_is_no_fault(
    start: Start, tmp_path: Path
) -> None:
    """Ctrl+C before anything has begun ends the worker as a drain would."""
    (tmp_path / "slow.py").write_text(
        "import time\nprint('importing', flush=True)\ntime.sleep(60)\n"
    )
    one = await start("-m", "headrace", "worker", "slow:app")
    await one.until("importing")
    one.signal(signal.SIGINT)
    assert await one.ends() == 0, one.output
