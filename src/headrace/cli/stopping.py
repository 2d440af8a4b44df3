"""When a process that runs an app is to stop, and what happens if it does not come to an end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from headrace.cli.ending import Code

GRACE_SECONDS = 10.0
"""How long closing connections may take after the drain, before the process is ended all the same."""

ECHO_SECONDS = 0.5
"""A signal that follows so soon is the same wish: `timeout`, and terminals, tell a process and then its whole group."""

_END_OF_INPUT = b"\0"  # no signal has this number


class Stopping:
    """The wish to stop, from signals or from the process that started this one.

    The first SIGTERM or SIGINT begins the drain, the second ends the process at once: nothing is lost by that, see G5 and
    G7. Both work also while a handler blocks the event loop, and so does the deadline, because a thread watches them.

    Args:
        at_once: what is to be done before the process ends without having drained.
    """

    def __init__(self, at_once: Callable[[], None] = lambda: None) -> None:
        self._at_once = at_once
        self._wishes, self._wish = socket.socketpair()
        self._wish.setblocking(False)

    def watch(self, drain_seconds: float) -> asyncio.Event:
        """Listen to signals from now on, in the running event loop. The event is set when the drain is to begin."""
        event, loop = asyncio.Event(), asyncio.get_running_loop()
        threading.Thread(
            target=self._watch,
            args=(lambda: loop.call_soon_threadsafe(event.set), drain_seconds + GRACE_SECONDS),
            name="headrace-stop",
            daemon=True,
        ).start()
        # Not loop.add_signal_handler: that waits for the loop. Not the handler alone: the system may give the signal to
        # another thread, and then Python runs the handler when the main thread does something next.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(self._wish.fileno(), warn_on_full_buffer=False)
        return event

    def at_end_of_input(self) -> None:
        """Stop also when the standard input ends: when the process that holds its other end has ended, however it did."""

        def wait() -> None:
            # Not sys.stdin: its lock would be held at the exit of the interpreter.
            try:
                while os.read(0, 1024):
                    pass
            except OSError:
                pass  # closed: the same
            self._wish.send(_END_OF_INPUT)

        threading.Thread(target=wait, name="headrace-parent", daemon=True).start()

    def end(self, code: int) -> None:
        """End the process without waiting for threads and tasks."""
        self._at_once()
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    def _watch(self, begin: Callable[[], object], seconds: float) -> None:
        """What comes through the socket are numbers of signals, or the end of the input."""
        first_signal_at: float | None = None
        deadline: float | None = None
        while True:
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            self._wishes.settimeout(left)
            try:
                wish = self._wishes.recv(1)
            except (TimeoutError, BlockingIOError):
                self._end_now(
                    f"not at an end {seconds:.3g} s after the stop began; ended all the same"
                )
                return
            if wish[0] not in (_END_OF_INPUT[0], signal.SIGTERM, signal.SIGINT):
                continue  # a signal that the app listens to
            now = time.monotonic()
            if deadline is None:
                deadline = now + seconds
                try:
                    begin()
                except RuntimeError:
                    pass  # the event loop is closed: the process is at its end
            if wish == _END_OF_INPUT:
                continue
            if first_signal_at is None:
                first_signal_at = now
            elif now - first_signal_at > ECHO_SECONDS:
                self._end_now("stopped at once by a second signal; what ran is done again")

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        # Python has sent the number before it came here, unless somebody else has taken the place of our socket.
        current = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(current)
        if current != self._wish.fileno():
            self._wish.send(bytes([number]))

    def _end_now(self, text: str) -> None:
        os.write(2, f"headrace: {text}\n".encode())
        self._at_once()
        os._exit(Code.CUT)
