"""URLs of servers: their parts, their settings, and no password in what goes wrong."""

from __future__ import annotations

import pytest

from headrace.assembly.urls import broker_from
from headrace.errors import ConfigurationError, HeadraceError
from headrace.urls import Kinds, read_settings, read_url, truth

SECRET = "hush-hush"


def test_a_url_is_taken_apart() -> None:
    """Each part is found, those of the login decoded; as text the URL shows neither login nor settings."""
    url = read_url("amqp://us%40er:p%2Fw@h1:1,[::1]:2/v%2Fhost?prefix=a%26b&declare=")
    assert (url.scheme, url.hosts, url.path) == ("amqp", "h1:1,[::1]:2", "v%2Fhost")
    assert (url.user, url.password) == ("us@er", "p/w")
    assert url.settings == {"prefix": "a&b", "declare": ""}
    assert str(url) == "amqp://***@h1:1,[::1]:2/v%2Fhost"
    assert "p%2Fw" not in repr(url)


@pytest.mark.parametrize(
    ("text", "user", "password"),
    [
        ("s://h", None, None),
        ("s://u@h", "u", None),
        ("s://:p@h", None, "p"),
        ("s://u:p:q@r@h", "u", "p:q@r"),
    ],
)
def test_a_login_has_two_parts(text: str, user: str | None, password: str | None) -> None:
    """A login may have a user, a password or both; what cannot be mistaken need not be encoded."""
    url = read_url(text)
    assert (url.user, url.password, url.hosts) == (user, password, "h")


def test_settings_are_values() -> None:
    """Settings of the query become numbers, truth values and text, by a table."""
    url = read_url("s://h?n=3&seconds=0.5&on=Yes&off=0&name=x")
    kinds: Kinds = {"n": int, "seconds": float, "on": truth, "off": truth, "name": str}
    assert read_settings(url, kinds) == {
        "n": 3,
        "seconds": 0.5,
        "on": True,
        "off": False,
        "name": "x",
    }


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("nn=3", "no setting 'nn'. Did you mean 'n'"),
        ("n=three", "n='three': write a whole number"),
        ("seconds=soon", "seconds='soon': write a number"),
        ("on=maybe", "on='maybe': write true or false"),
    ],
)
def test_a_wrong_setting_says_what_there_is(query: str, said: str) -> None:
    """A setting that there is none of, and a value that does not fit, are named, with what to write."""
    kinds: Kinds = {"n": int, "seconds": float, "on": truth}
    with pytest.raises(ConfigurationError) as error:
        read_settings(read_url(f"s://h?{query}"), kinds)
    assert said in str(error.value)


@pytest.mark.parametrize(
    "scheme", ["kafka", "kafkas", "amqp", "amqps", "nats", "natss", "redis", "rediss", "kafak"]
)
@pytest.mark.parametrize(
    "behind",
    ["h:5672/0", "h:port/0", "h?nonsense=1", "h?timeout_seconds=x", f"h?password={SECRET}"],
)
@pytest.mark.parametrize("letter", "/?#@:[%")
def test_no_error_shows_a_password(scheme: str, behind: str, letter: str) -> None:
    """Whatever else is wrong with a URL, and whichever letter of a password was not encoded, it is not shown."""
    for password in (SECRET + letter + "x", "x" + letter + SECRET, SECRET):
        try:
            told = repr(broker_from(f"{scheme}://user:{password}@{behind}"))
        except HeadraceError as raised:
            error: BaseException | None = raised
            told = ""
            while error is not None:
                told += repr(error)
                context = None if error.__suppress_context__ else error.__context__
                error = error.__cause__ or context
        assert SECRET not in told
