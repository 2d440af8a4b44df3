"""One process that relays and consumes until it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from contextlib import suppress

from msgspec.structs import replace

from headrace.app import Headrace, Role
from headrace.assembly import Settings
from headrace.cli.ending import Code, Fault, fault_of
from headrace.cli.probes import probes
from headrace.cli.stopping import Stopping
from headrace.limits import Limits
from headrace.telemetry import Count, LogEvent


def restricted(app: Headrace, roles: Collection[Role]) -> tuple[Headrace, Limits]:
    """The same app in other roles, and its limits.

    Raises:
        Fault: the app has nothing to do in these roles.
    """
    if "relay" in roles and "consume" not in roles and (app.storage is None or app.broker is None):
        missing = "storage" if app.storage is None else "broker"
        raise Fault(
            f"the app {app.name!r} has no {missing}, so there is nothing to relay. Pass {missing}=... to Headrace.",
            Code.FAULT,
        )
    if app.storage is None and app.broker is None:
        raise Fault(
            f"the app {app.name!r} has neither storage nor broker, so there is nothing to relay or to consume. Pass "
            "storage=... and broker=... to Headrace.",
            Code.FAULT,
        )
    limits: list[Limits] = []

    def change(settings: Settings) -> Settings:
        limits.append(settings.limits)
        return replace(settings, roles=frozenset(roles))

    worker = app.variant(change)
    # Beside a database and a broker counting is cheap, and `headrace status` shows what each handler does.
    worker.telemetry.observe_sends = True
    return worker, limits[0]


def run(
    app: Headrace,
    limits: Limits,
    stopping: Stopping,
    *,
    until_end_of_input: bool,
    health: tuple[str, int] | None = None,
) -> Code:
    """Start the app, wait until it is to stop, drain it. `health` is the address at which probes are answered.

    Raises:
        Fault: it could not be started.
    """
    with asyncio.Runner() as runner:
        code = runner.run(_answering(app, health, _run(app, limits, stopping, until_end_of_input)))
        if code is Code.CUT:
            # What did not end by its cancellation would be waited for without a limit.
            stopping.end(code)
    return code


async def _answering(
    app: Headrace, health: tuple[str, int] | None, work: Coroutine[object, object, Code]
) -> Code:
    if health is None:
        return await work
    host, asked = health
    try:
        async with probes(app, host, asked) as port:
            app.telemetry.info(
                LogEvent.WORKER_PROBED,
                f"{app.name}: /live and /ready are answered at {host}:{port}.",
            )
            return await work
    finally:
        work.close()


async def _run(app: Headrace, limits: Limits, stopping: Stopping, until_end_of_input: bool) -> Code:
    stop = stopping.watch(limits.drain_seconds)
    if until_end_of_input:
        stopping.at_end_of_input()
    told = asyncio.create_task(stop.wait())
    starting = asyncio.create_task(app.start())
    await asyncio.wait({told, starting}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()  # it undoes what it has done
    try:
        await starting
    except asyncio.CancelledError:
        return Code.DONE
    except Exception as error:
        told.cancel()
        raise fault_of(f"the app {app.name!r} could not be started", error) from error
    await _say_what_runs(app, limits)
    await told
    await app.stop()
    return Code.CUT if app.telemetry.counts[Count.DRAIN_CUT] else Code.DONE


async def _say_what_runs(app: Headrace, limits: Limits) -> None:
    work = list[str]()
    with suppress(Exception):  # a database that is away just now is reported by those who need it
        status = await app.status()
        if status.relay is not None:
            work.append("relays its outbox")
        work += [f"consumes as group {one.group!r}" for one in status.consumers]
    app.telemetry.info(
        LogEvent.WORKER_RUNNING,
        f"{app.name}: this worker {' and '.join(work) or 'has nothing to relay or consume'}. SIGTERM or SIGINT drains it "
        f"within {limits.drain_seconds:g} s, a second one stops it at once.",
    )
