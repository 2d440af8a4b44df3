"""MariaDB: Debian's. There is no wheel that carries it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from engines import answers
from engines.process import Command
from engines.server import Server


class Mariadb(Server):
    """A MariaDB that waits for the disk at each commit and lets 200 connections in."""

    name = "mariadb"
    local_urls = (
        "mysql+asyncmy://root@127.0.0.1:3306/test",
        "mysql+asyncmy://root:root@127.0.0.1:3306/test",
    )
    debian = "mariadb-server"
    ask = staticmethod(answers.mariadb)

    @classmethod
    def program(cls) -> Path | None:
        found = shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        return Path(found) if found and shutil.which("mariadb-install-db") else None

    @property
    def url(self) -> str:
        return f"mysql+asyncmy://root@127.0.0.1:{self.port}/test"

    def prepare(self) -> None:
        if not (self.folder / "data" / "mysql").exists():
            argv = ["mariadb-install-db", "--no-defaults", f"--datadir={self.folder / 'data'}"]
            argv += ["--auth-root-authentication-method=normal", "--skip-test-db", *_as_root()]
            self.run_tool(argv)
        (self.folder / "start.sql").write_text("CREATE DATABASE IF NOT EXISTS test;\n")

    def command(self) -> Command:
        program = self.program()
        assert program is not None
        argv: list[str | Path] = [
            program,
            "--no-defaults",
            f"--datadir={self.folder / 'data'}",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            # Seen from its data folder: the whole path may be longer than a socket's may be.
            "--socket=server.sock",
            "--pid-file=server.pid",
            f"--init-file={self.folder / 'start.sql'}",
            "--max-connections=200",
            "--innodb-flush-log-at-trx-commit=1",
            "--sync-binlog=1",
            *_as_root(),
        ]
        return Command(argv, self.folder, self.log)


def _as_root() -> list[str]:
    return ["--user=root"] if os.geteuid() == 0 else []
