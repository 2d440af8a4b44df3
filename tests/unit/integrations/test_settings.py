"""Settings from the environment: what is read, what is refused, and what is never shown."""

import os
import re
from pathlib import Path

import pytest
from pydantic_settings import SettingsConfigDict

from headrace import Headrace, Limits
from headrace.errors import ConfigurationError
from headrace.integrations.settings import HeadraceSettings

URL = "postgresql+asyncpg://ann:secret@db/orders"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("HEADRACE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_what_is_not_set_is_left_to_the_app() -> None:
    """An empty environment gives no options at all."""
    assert HeadraceSettings().options() == {}


def test_each_setting_is_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Storage, broker, roles, limits and unhandled are read, and an app takes them."""
    monkeypatch.setenv("HEADRACE_STORAGE", URL)
    monkeypatch.setenv("HEADRACE_BROKER", "sql://")
    monkeypatch.setenv("HEADRACE_ROLES", "send, relay")
    monkeypatch.setenv("HEADRACE_LIMITS__DRAIN_SECONDS", "20")
    monkeypatch.setenv("HEADRACE_LIMITS__BATCH", "7")
    monkeypatch.setenv("headrace_unhandled", "error")
    settings = HeadraceSettings()
    assert settings.options() == {
        "storage": URL,
        "broker": "sql://",
        "roles": frozenset({"send", "relay"}),
        "limits": Limits(drain_seconds=20, batch=7),
        "unhandled": "error",
    }
    assert Headrace("orders", **settings.options()).storage is not None


def test_passwords_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the repr, nor str, nor a dump, nor an error has the password of a URL."""
    monkeypatch.setenv("HEADRACE_STORAGE", URL)
    settings = HeadraceSettings()
    assert "secret" not in f"{settings!r} {settings} {settings.model_dump()}"
    monkeypatch.setenv("HEADRACE_BROKER", "amqpx://ann:secret@mq/")
    monkeypatch.setenv("HEADRACE_ROLES", "secret")
    with pytest.raises(ConfigurationError) as caught:
        HeadraceSettings()
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_errors_name_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """All values that cannot be used are reported together, each with its variable."""
    monkeypatch.setenv("HEADRACE_STORAGE", "postgres://db/orders")
    monkeypatch.setenv("HEADRACE_ROLES", "send,rely")
    monkeypatch.setenv("HEADRACE_LIMITS__DRAIN_SECONDS", "soon")
    with pytest.raises(ConfigurationError) as caught:
        HeadraceSettings()
    text = str(caught.value)
    assert "3 settings cannot be used" in text
    assert "HEADRACE_STORAGE: storage='postgres://db/orders': no storage has the scheme" in text
    assert "HEADRACE_ROLES: Input should be 'send', 'relay' or 'consume'" in text
    assert "HEADRACE_LIMITS__DRAIN_SECONDS: Input should be a valid number" in text


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("HEADRACE_LIMITS__DRAIN_SECONDS", "-1", "HEADRACE_LIMITS: Limits(drain_seconds=-1.0)"),
        ("HEADRACE_LIMITS", "[", "HEADRACE_LIMITS: "),
        ("HEADRACE_ROLES", "[send", "HEADRACE_ROLES: "),
        ("HEADRACE_STORGE", URL, "HEADRACE_STORGE: there is no such setting. Did you mean HEAD"),
        ("HEADRACE_LIMITS__DRAIN_SECOND", "3", "Did you mean HEADRACE_LIMITS__DRAIN_SECONDS?"),
    ],
)
def test_a_variable_that_would_do_nothing_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    """G13: a value out of bounds, no JSON, and a variable that is nearly a setting are errors."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        HeadraceSettings()


def test_other_variables_with_the_prefix_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that resembles no setting is somebody else's."""
    monkeypatch.setenv("HEADRACE_SEED", "7")
    assert HeadraceSettings().options() == {}


def test_a_file_is_read_only_when_it_is_asked_for(tmp_path: Path) -> None:
    """A .env in the working directory does nothing by itself."""
    (tmp_path / ".env").write_text("HEADRACE_BROKER=sql://\n", encoding="utf-8")
    assert HeadraceSettings().broker is None
    assert HeadraceSettings(_env_file=".env").options() == {"broker": "sql://"}


def test_a_subclass_has_settings_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A subclass may add fields and change the prefix; its errors name its variables."""

    class Settings(HeadraceSettings):
        model_config = SettingsConfigDict(env_prefix="SHOP_")

        currency: str = "EUR"
        seats: int = 2

    monkeypatch.setenv("SHOP_BROKER", "memory://")
    monkeypatch.setenv("SHOP_CURRENCY", "CHF")
    settings = Settings()
    assert (settings.currency, settings.options()) == ("CHF", {"broker": "memory://"})
    monkeypatch.setenv("SHOP_SEATS", "many")
    with pytest.raises(ConfigurationError, match="SHOP_SEATS: Input should be a valid integer"):
        Settings()
