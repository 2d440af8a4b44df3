"""Listeners are woken soon, as often as they listen, until they end."""

from __future__ import annotations

import asyncio

from headrace.drivers.listeners import Listeners


async def test_the_same_function_may_listen_twice_and_end_once() -> None:
    """Each call of `add` is one listener; ending one, also twice, leaves the other."""
    listeners: Listeners[str] = Listeners()
    heard: list[str] = []

    def wake() -> None:
        heard.append("woken")

    first, second = listeners.add("orders", wake), listeners.add("orders", wake)
    listeners.wake(["orders", "others"])
    await asyncio.sleep(0)
    assert heard == ["woken", "woken"]
    first()
    first()
    listeners.wake(["orders"])
    await asyncio.sleep(0)
    assert heard == ["woken", "woken", "woken"]
    second()
    assert "orders" not in listeners
    assert not listeners


async def test_who_ends_between_the_wake_and_the_call_is_not_called() -> None:
    """A listener is called soon, unless it has ended by then."""
    listeners: Listeners[str] = Listeners()
    heard: list[str] = []
    end = listeners.add("orders", lambda: heard.append("gone"))
    listeners.add("orders", lambda: heard.append("there"))
    listeners.wake_all()
    end()
    assert heard == []
    await asyncio.sleep(0)
    assert heard == ["there"]


async def test_ending_after_all_were_forgotten_is_no_error() -> None:
    """Who stops a driver first and its listener then gets no error."""
    listeners: Listeners[tuple[str, str]] = Listeners()
    end = listeners.add(("group", "orders"), lambda: None)
    listeners.clear()
    assert listeners.names() == ()
    end()
