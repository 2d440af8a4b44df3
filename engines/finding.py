"""Find an engine: named in the environment, running here, installed here, or installed now."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engines import sharing
from engines.answers import hosts
from engines.databases import Database
from engines.install import install
from engines.kinds import KINDS
from engines.missing import EngineMissing
from engines.server import Server

NAMES = tuple(KINDS)
STORAGES = ("postgresql", "mariadb")
BROKERS = ("redis", "rabbitmq", "nats", "kafka")


@dataclass(frozen=True, slots=True)
class Engine:
    """A server that others may use too: take names of your own on it, and remove them.

    Args:
        name: one of `NAMES`.
        version: as the server tells it.
        url: where it answers, as Headrace takes it.
        origin: how it was found, in words.
    """

    name: str
    version: str
    url: str
    origin: str

    def fresh_database(self) -> Database:
        """A new database with a random name: its URL, and a function that drops it by force.

        Raises:
            ValueError: the engine is a broker.
        """
        return Database.on(self.url)


_found: dict[str, Engine | EngineMissing] = {}


def shared(name: str) -> Engine:
    """The engine of this name. The first call looks for it, or starts it; later ones return what that found.

    In this order: the URL in HEADRACE_<NAME>_URL; one that answers on this machine's usual port with the usual
    credentials; one started from what is installed; one installed and started.

    Raises:
        EngineMissing: it could not be had; the message says why and what to do.
        ValueError: there is no engine of this name.
    """
    kind = _kind(name)
    if name not in _found:
        try:
            _found[name] = _find(kind)
        except EngineMissing as missing:
            _found[name] = missing
    answer = _found[name]
    if isinstance(answer, EngineMissing):
        raise EngineMissing(str(answer))
    return answer


def private(name: str, folder: Path) -> Server:
    """A server of one's own, not yet started, with its data in `folder`. Installed if it is not on this machine.

    Raises:
        EngineMissing: its program is not here and could not be installed.
        ValueError: there is no engine of this name.
    """
    kind = _kind(name)
    _installed(kind)
    return kind(folder)


def _kind(name: str) -> type[Server]:
    if name not in KINDS:
        raise ValueError(f"no engine is named {name!r}; there are {', '.join(NAMES)}")
    return KINDS[name]


def _find(kind: type[Server], environment: Mapping[str, str] = os.environ) -> Engine:
    variable = f"HEADRACE_{kind.name.upper()}_URL"
    if url := environment.get(variable):
        try:
            return Engine(kind.name, kind.ask(url), url, f"named by {variable}")
        except Exception as error:
            raise EngineMissing(
                f"the server that {variable} names does not answer: {error!r}; start it, or unset the variable"
            ) from error
    for url in kind.local_urls:
        if not _listens(url):
            continue
        try:
            return Engine(kind.name, kind.ask(url), url, "running on this machine")
        except Exception:  # Other credentials than the usual ones: not for us.
            continue
    origin = _installed(kind)
    url, version = sharing.join(kind.name)
    return Engine(kind.name, version, url, origin)


def _installed(kind: type[Server]) -> str:
    """Have its program on this machine; returns how it came there."""
    if kind.program() is None:
        # One at a time: installers do not like company.
        lock = Path(tempfile.gettempdir()) / f"headrace-install-{os.geteuid()}.lock"
        with lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if kind.program() is None:
                install(kind)
                return "installed and started by engines"
    return "started by engines"


def _listens(url: str) -> bool:
    (address, *_) = hosts(url, 0)
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(address) == 0
