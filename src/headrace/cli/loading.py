"""From `module:app` on the command line to the app, with errors that say what is wrong."""

from __future__ import annotations

import difflib
import importlib
import re
import sys
from collections.abc import Coroutine, Mapping
from pathlib import Path
from types import ModuleType

from headrace.app import Headrace
from headrace.cli.ending import Code, Fault, fault_of

_SPELLING = re.compile(r"(?P<module>[\w.]+):(?P<name>[\w.]+)(?P<call>\(\))?")


def load(given: str) -> Headrace:
    """The app that an argument names: `module:app`, or `module:make()` for a function that makes it.

    Modules are found in the current folder first, as with `python -m`.

    Raises:
        Fault: there is no such app, or making it raised.
    """
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    spelled = _SPELLING.fullmatch(given)
    if spelled is None:
        raise Fault(
            f"{given!r} does not name an app. Write module:app, such as shop.main:app, or module:make() for a function that "
            f"makes it{_candidates(given)}.{_as_module(given)}",
            Code.USAGE,
        )
    found: object = _module(spelled["module"], given)
    for name in spelled["name"].split("."):
        found = _attribute(found, name, given)
    if spelled["call"]:
        found = _made(found, given)
    if isinstance(found, Headrace):
        return found
    if isinstance(found, Coroutine):
        found.close()
        raise Fault(f"{given} is async. Make the app in a plain function.", Code.USAGE)
    if callable(found) and not spelled["call"]:
        raise Fault(
            f"{given} is {_what(found)}, not an app. If it makes the app, write '{given}()', in quotes for the shell.",
            Code.USAGE,
        )
    raise Fault(f"{given} is {_what(found)}, not an app, a Headrace(...).", Code.USAGE)


def _module(name: str, given: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name != missing and not name.startswith(f"{missing}."):
            raise fault_of(f"{given} could not be imported", error) from error
        raise Fault(
            f"{given}: there is no module {missing!r} in {Path.cwd()}, nor anywhere else that Python looks."
            f"{_as_module(given) or ' Start the command in the folder that has it, or set PYTHONPATH.'}",
            Code.USAGE,
        ) from error
    except Exception as error:
        raise fault_of(f"{given} could not be imported", error) from error


def _attribute(owner: object, name: str, given: str) -> object:
    try:
        return getattr(owner, name)
    except AttributeError:
        apps = _apps_of(owner)
        near = apps or difflib.get_close_matches(name, dir(owner), n=3)
        hint = f" It has {' and '.join(near)}." if near else " It has no app at its top."
        raise Fault(
            f"{given}: {getattr(owner, '__name__', owner)} has no {name!r}.{hint}", Code.USAGE
        ) from None


def _made(factory: object, given: str) -> object:
    if not callable(factory):
        raise Fault(
            f"{given}: this is {_what(factory)}, which cannot be called. Leave the () out.",
            Code.USAGE,
        )
    try:
        return factory()
    except Exception as error:
        raise fault_of(f"{given} raised", error) from error


def _apps_of(owner: object) -> list[str]:
    return [name for name, value in _names_of(owner).items() if isinstance(value, Headrace)]


def _names_of(owner: object) -> Mapping[str, object]:
    return getattr(owner, "__dict__", {})


def _candidates(given: str) -> str:
    """Apps at the top of the module, if the argument is the name of a module alone."""
    if not re.fullmatch(r"[\w.]+", given):
        return ""
    try:
        names = _apps_of(importlib.import_module(given))
    except Exception:
        return ""
    return f"; there is {' and '.join(f'{given}:{name}' for name in names)}" if names else ""


def _as_module(given: str) -> str:
    """What to write if the argument is the path of a file."""
    path, _, rest = given.partition(":")
    if "/" not in path and not path.endswith(".py"):
        return ""
    module = path.removeprefix("./").removesuffix(".py").strip("/").replace("/", ".")
    return f" It is the module that is named, not its file: {module}:{rest or 'app'}."


def _what(value: object) -> str:
    kind = type(value).__qualname__
    return f"{'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}"
