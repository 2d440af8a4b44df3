"""Settings of an app from the environment, by pydantic-settings.

Source: "III. Config", Wiggins, The Twelve-Factor App (2011); pydantic-settings, https://docs.pydantic.dev.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, TypedDict, cast

from headrace.app import Role
from headrace.assembly.urls import broker_from, storage_from
from headrace.emitter import Unhandled
from headrace.errors import ConfigurationError, HeadraceError, MissingExtra
from headrace.limits import Limits

try:
    from pydantic import SecretStr, ValidationError, field_validator
    from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError
except ModuleNotFoundError as error:
    raise MissingExtra.of(__name__, "settings", error.name or "pydantic-settings") from error

__all__ = ["HeadraceOptions", "HeadraceSettings"]


class HeadraceOptions(TypedDict, total=False):
    """Keyword arguments of `Headrace`: those that were set."""

    storage: str
    broker: str
    roles: frozenset[Role]
    limits: Limits
    unhandled: Unhandled


class HeadraceSettings(BaseSettings):
    """What an app is given by its environment: `Headrace("meetings", **HeadraceSettings().options(), modules=[...])`.

    Each field is a variable `HEADRACE_...`. Subclass it to add settings of your own, or to change the prefix. A file is read
    only when it is asked for: `HeadraceSettings(_env_file=".env")`. URLs have passwords: they are never in a repr or an error.

    Args:
        storage: a URL, from `HEADRACE_STORAGE`.
        broker: a URL, from `HEADRACE_BROKER`.
        roles: from `HEADRACE_ROLES`, with commas: `send,relay`.
        limits: from `HEADRACE_LIMITS__DRAIN_SECONDS` and so on: the fields of `headrace.Limits`.
        unhandled: from `HEADRACE_UNHANDLED`: `warn`, `error` or `ignore`.

    Raises:
        ConfigurationError: values that cannot be used, or a variable that is no setting and nearly one; names the variables.
    """

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix="HEADRACE_",
        env_nested_delimiter="__",
        env_file=None,
        extra="ignore",
        hide_input_in_errors=True,
        frozen=True,
    )

    storage: SecretStr | None = None
    broker: SecretStr | None = None
    roles: Annotated[frozenset[Role] | None, NoDecode] = None
    limits: Limits | None = None
    unhandled: Unhandled | None = None

    # Hidden from type checkers, so that they see the parameters of BaseSettings.
    if not TYPE_CHECKING:

        def __init__(self, **values: object) -> None:
            names = _Names(type(self), cast("str | None", values.get("_env_prefix")))
            try:
                super().__init__(**values)
            except ValidationError as error:
                faults = [names.fault(one["loc"], one["msg"]) for one in error.errors()]
                raise _unusable(faults) from None  # pydantic's own error shows what was given
            except SettingsError as error:
                raise _unusable([_words(error, names)]) from None
            misspelt = list(names.misspelt(os.environ))
            if misspelt:
                raise _unusable(misspelt)

    @field_validator("roles", mode="before")
    @classmethod
    def _from_commas(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        if given.lstrip().startswith("["):
            return json.loads(given)
        return [role.strip() for role in given.split(",") if role.strip()]

    @field_validator("storage")
    @classmethod
    def _check_storage(cls, given: SecretStr | None) -> SecretStr | None:
        return _checked(given, storage_from)

    @field_validator("broker")
    @classmethod
    def _check_broker(cls, given: SecretStr | None) -> SecretStr | None:
        return _checked(given, broker_from)

    def options(self) -> HeadraceOptions:
        """Keyword arguments for `Headrace`: what was set, with the passwords. What was not set has the app's default."""
        options = HeadraceOptions()
        if self.storage is not None:
            options["storage"] = self.storage.get_secret_value()
        if self.broker is not None:
            options["broker"] = self.broker.get_secret_value()
        if self.roles is not None:
            options["roles"] = self.roles
        if self.limits is not None:
            options["limits"] = self.limits
        if self.unhandled is not None:
            options["unhandled"] = self.unhandled
        return options


def _checked(given: SecretStr | None, make: Callable[[str], object]) -> SecretStr | None:
    """Makes the driver and lets it go: it does no I/O, and here the error can name the variable."""
    if given is not None:
        try:
            make(given.get_secret_value())
        except HeadraceError as error:
            raise ValueError(str(error)) from None
    return given


_CODE: Final = re.compile(r"^\[HR\d+\] ")
"""The code of an error inside another one, which has its own."""


class _Names:
    """The variables of a class of settings."""

    def __init__(self, kind: type[HeadraceSettings], prefix: str | None) -> None:
        self._kind = kind
        given = prefix if prefix is not None else kind.model_config.get("env_prefix", "")
        self.prefix = given.upper()
        self._delimiter = kind.model_config.get("env_nested_delimiter") or "__"

    def of(self, *path: object) -> str:
        """The variable of a field, or of a part of one."""
        return self.prefix + self._delimiter.join(map(str, path)).upper()

    def fault(self, path: tuple[int | str, ...], text: str) -> str:
        """A line about a value that cannot be used."""
        field = str(path[0]) if path else ""
        if field not in self._kind.model_fields:  # by an alias, or no single field
            return f"{field or self._kind.__qualname__}: {text}"
        names = [part for part in path if isinstance(part, str)]
        # Below a field with parts of its own comes a part; below others come what a checker calls its kinds.
        depth = 2 if field == "limits" else 1
        return f"{self.of(*names[:depth])}: {_CODE.sub('', text.removeprefix('Value error, '))}"

    def misspelt(self, environment: Mapping[str, str]) -> Iterator[str]:
        """A line for each variable that is no setting, and nearly one: it would do nothing, in silence."""
        if not self.prefix:
            return
        known = {self.of(name) for name in self._kind.model_fields}
        limits = {self.of("limits", name) for name in Limits.__dataclass_fields__}
        for name in sorted(environment):
            upper = name.upper()
            if not upper.startswith(self.prefix) or upper in known | limits:
                continue
            near = difflib.get_close_matches(upper, known | limits, n=1, cutoff=0.85)
            if near:
                yield f"{name}: there is no such setting. Did you mean {near[0]}?"


def _words(error: SettingsError, names: _Names) -> str:
    """pydantic-settings names the field, in quotes."""
    field = str(error).partition('"')[2].partition('"')[0]
    return f"{names.of(field)}: not the JSON that is wanted. Give its parts one by one: {names.of(field, '...')}"


def _unusable(faults: list[str]) -> ConfigurationError:
    count = f"{len(faults)} setting" + ("s" if len(faults) != 1 else "")
    return ConfigurationError(
        f"{count} cannot be used:\n" + "\n".join(f"  - {fault}" for fault in faults)
    )
