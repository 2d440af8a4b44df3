"""The URL of a server in parts, and the settings in its query. Nothing that may be secret stands in an error."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from msgspec import Struct, field

from headrace.errors import ConfigurationError

Kinds = Mapping[str, Callable[[str], object]]
"""Names of settings, each with what makes a value of its text: `str`, `int`, `float`, `truth`."""


_WANTED: Final[Mapping[object, str]] = {int: "a whole number", float: "a number"}


class ServerUrl(Struct, frozen=True):
    """A URL as it was written: `scheme://login@hosts/path?settings`. As text it shows no login and no settings.

    Args:
        scheme: before `://`.
        hosts: one host or more with commas between, each with its port if it has one.
        path: behind the slash that ends the hosts, percent-encoded; "" if there is none.
        login: what stands before `@`, percent-encoded; None if there is none.
        settings: of the query; of one that is given twice the last.
    """

    scheme: str
    hosts: str
    path: str = ""
    login: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict[str, str])

    def __repr__(self) -> str:
        return f"ServerUrl({str(self)!r})"

    def __str__(self) -> str:
        login = "" if self.login is None else "***@"
        return f"{self.scheme}://{login}{self.hosts}{self.path and '/'}{self.path}"

    @property
    def user(self) -> str | None:
        """The user, decoded; None if there is none."""
        return None if self.login is None else unquote(self.login.partition(":")[0]) or None

    @property
    def password(self) -> str | None:
        """The password, decoded; None if there is none."""
        if self.login is None or ":" not in self.login:
            return None
        return unquote(self.login.partition(":")[2])


def read_url(url: str) -> ServerUrl:
    """Take a URL apart.

    Raises:
        ConfigurationError: it has no scheme, or it cannot be told where its password ends.
    """
    scheme, mark, rest = url.partition("://")
    address, _, query = rest.partition("?")
    login, at, server = address.rpartition("@")
    if not mark or "/" in login or "@" in query:
        raise ConfigurationError(
            f"{hidden(url)!r} cannot be read as a URL: write scheme://user:password@host:port/path?setting=value, and "
            "percent-encode the special characters of each part: / is %2F, ? is %3F, @ is %40."
        )
    hosts, _, path = server.partition("/")
    settings = dict(parse_qsl(query, keep_blank_values=True))
    return ServerUrl(scheme, hosts, path, login if at else None, settings)


def read_settings(
    url: ServerUrl,
    kinds: Kinds,
    settings: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The settings of a URL as values.

    Args:
        url: shown in errors.
        kinds: those that there are. Values are of these, which no type checker can know of a mapping.
        settings: those to read; default all of the URL.

    Raises:
        ConfigurationError: there is no such setting, or its value cannot be used.
    """
    found: dict[str, Any] = {}
    for name, text in (url.settings if settings is None else settings).items():
        if name not in kinds:
            near = difflib.get_close_matches(name, kinds, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigurationError(
                f"{str(url)!r}: there is no setting {name!r}.{hint} There are {', '.join(sorted(kinds))}."
            )
        try:
            found[name] = kinds[name](text)
        except ValueError:
            wanted = _WANTED.get(kinds[name], "true or false")
            raise ConfigurationError(f"{str(url)!r}: {name}={text!r}: write {wanted}.") from None
    return found


def truth(text: str) -> bool:
    """The truth value that a text stands for; raises `ValueError` for any other than true, yes, 1, false, no, 0."""
    lower = text.lower()
    if lower in ("true", "yes", "1"):
        return True
    if lower in ("false", "no", "0"):
        return False
    raise ValueError(text)


def hidden(url: str) -> str:
    """A URL for errors, also one that cannot be read: without what may be secret."""
    scheme, mark, rest = url.partition("://")
    _, at, server = rest.rpartition("@")
    return f"{scheme}{mark}{'***@' if at else ''}{server.partition('?')[0]}"
