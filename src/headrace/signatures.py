"""What handlers ask for and answer, read from their signatures when the app is assembled; never while it runs."""

from __future__ import annotations

import enum
import inspect
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Final, ForwardRef, Union, cast, get_args, get_origin, get_type_hints

from msgspec import Struct

from headrace.generics import generic_arguments
from headrace.handlers import EventHandler, RequestHandler
from headrace.messages import UNKNOWN

UNANNOTATED: Final = inspect.Parameter.empty
"""The annotation of a parameter that has none."""


class SignatureFault(Exception):
    """A signature cannot be read at run time. Its text is a wiring fault (G12), complete with place and remedy."""


class Parameter(Struct, frozen=True):
    """A parameter that is to be filled.

    Args:
        name: as declared.
        annotation: resolved, with the extras of `Annotated`; `UNANNOTATED` if there is none.
        has_default: True if it may be left out.
        kind: one of `inspect.Parameter`'s kinds: positional-only, positional or keyword, or keyword-only.
    """

    name: str
    annotation: object
    has_default: bool
    kind: enum.IntEnum


def parameters_of(handler: object, *, skip_first: bool) -> tuple[Parameter, ...]:
    """The parameters of a class's constructor (without self) or of a function.

    `*args` and `**kwargs` are left out: nothing can be injected there.

    Args:
        handler: a class or a callable.
        skip_first: leave out the first parameter: the message, which is not injected.

    Raises:
        SignatureFault: an annotation does not resolve, or the signature cannot be read.
    """
    function = _constructor(handler) if isinstance(handler, type) else handler
    if function is None:
        return ()
    declared = list(_signature(function, handler).parameters.values())
    if isinstance(handler, type):
        declared = declared[1:]
    if skip_first:
        declared = declared[1:]
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return tuple(
        Parameter(
            name=parameter.name,
            annotation=_resolve(parameter.annotation, function, handler, parameter.name),
            has_default=parameter.default is not inspect.Parameter.empty,
            kind=parameter.kind,
        )
        for parameter in declared
        if parameter.kind not in variable
    )


def message_types_of(handler: object) -> tuple[type, ...]:
    """The classes of messages that a handler takes; `A | B` gives both.

    Args:
        handler: a function, read by its first parameter; or a class, read by its generic base `RequestHandler[Q, R]` or
            `EventHandler[E]`, without one by the first parameter of its `handle`.

    Raises:
        SignatureFault: there is no such parameter or annotation, it does not resolve, or it is no class.
    """
    annotation: object = UNANNOTATED
    if isinstance(handler, type):
        annotation = _base_argument(handler, 0)
    if annotation is UNANNOTATED:
        function, skip = _body(handler)
        declared = list(_signature(function, handler).parameters.values())[skip:]
        if not declared or declared[0].annotation is UNANNOTATED:
            what = "its first parameter has no annotation" if declared else "it takes no message"
            raise SignatureFault(
                f"{name_of(handler)} ({where(handler)}): {what}. "
                f"Annotate the first parameter with the class of the message."
            )
        annotation = _resolve(declared[0].annotation, function, handler, declared[0].name)
    found = (
        get_args(annotation)
        if get_origin(annotation) in (Union, types.UnionType)
        else (annotation,)
    )
    for one in found:
        if not isinstance(one, type) or one is type(None):
            raise SignatureFault(
                f"{name_of(handler)} ({where(handler)}) declares the message {one!r}, which is no class. "
                f"Annotate the first parameter with a message class, or several joined by |."
            )
    return cast("tuple[type, ...]", tuple(found))


def response_of(handler: object) -> object:
    """What a handler declares to answer: R of `RequestHandler[Q, R]`, else the return annotation. `UNKNOWN` if open.

    Raises:
        SignatureFault: the annotation does not resolve.
    """
    given = _base_argument(handler, 1) if isinstance(handler, type) else UNANNOTATED
    if given is UNANNOTATED:
        function, _ = _body(handler)
        annotation = _signature(function, handler).return_annotation
        given = _resolve(annotation, function, handler, "the return annotation")
    if given is UNANNOTATED:
        return UNKNOWN
    return None if given is type(None) else given


def stable_name(thing: object) -> str:
    """The name by which storage keeps a class or function: the same in every process that imports it.

    What belongs to the program that was started is named as if it had been imported, so that a worker knows it:
    `python -m shop.app` and `python shop.py` run it as `__main__`.
    """
    name = name_of(thing)
    if not name.startswith("__main__."):
        return name
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    module = spec.name.removesuffix(".__main__") if spec is not None else None
    if module is None and isinstance(file, str):
        module = Path(file).stem
    return f"{module or '__main__'}.{name.removeprefix('__main__.')}"


def name_of(thing: object) -> str:
    """The qualified name of a class or function with its module, for messages to people."""
    name = getattr(thing, "__qualname__", None)
    if not isinstance(name, str):
        return repr(thing)
    return f"{getattr(thing, '__module__', '?')}.{name}"


def where(thing: object) -> str:
    """Where a frame stands, or a class or function is declared: "file.py:12", relative to the working directory."""
    if isinstance(thing, types.FrameType):
        return f"{_short(thing.f_code.co_filename)}:{thing.f_lineno}"
    if isinstance(thing, type):
        try:
            return (
                f"{_short(inspect.getsourcefile(thing) or '?')}:{inspect.getsourcelines(thing)[1]}"
            )
        except (
            OSError,
            TypeError,
            SyntaxError,
        ):  # no file, or one that is no Python: a notebook, a page
            return f"module {thing.__module__}"
    code = getattr(inspect.unwrap(cast("Callable[..., object]", thing)), "__code__", None)
    if isinstance(code, types.CodeType):
        return f"{_short(code.co_filename)}:{code.co_firstlineno}"
    return where(type(thing))


def calling_place(depth: int = 1) -> str:
    """Where the caller of the function that calls this stands: "file.py:12". `depth` goes further up."""
    frame = inspect.currentframe()
    for _ in range(depth + 1):
        frame = frame.f_back if frame is not None else None
    return where(frame) if frame is not None else "?"


def _short(path: str) -> str:
    below = str(Path.cwd()) + os.sep
    return path.removeprefix(below)


def _constructor(cls: type) -> Callable[..., object] | None:
    init = inspect.getattr_static(cls, "__init__")
    return cast("Callable[..., object]", init) if isinstance(init, types.FunctionType) else None


def _body(handler: object) -> tuple[Callable[..., object], int]:
    """The function that takes the message, and how many parameters stand before it."""
    if not isinstance(handler, type):
        return cast("Callable[..., object]", handler), 0
    handle = inspect.getattr_static(handler, "handle", None)
    if isinstance(handle, staticmethod | classmethod):
        return cast("Callable[..., object]", getattr(handler, "handle")), 0  # noqa: B009 - bound, so without cls
    return cast("Callable[..., object]", handle), 1


def _base_argument(cls: type, index: int) -> object:
    for base in (RequestHandler, EventHandler):
        given = generic_arguments(cls, base)
        if given is not None and index < len(given):
            argument = given[index]
            if not isinstance(argument, ForwardRef):
                return argument
            raise _unresolved(
                f"{base.__name__}[{argument.__forward_arg__}]",
                argument.__forward_arg__,
                cls,
                "unknown name",
            )
    return UNANNOTATED


def _signature(function: object, handler: object) -> inspect.Signature:
    try:
        return inspect.signature(cast("Callable[..., object]", function))
    except (TypeError, ValueError) as error:
        raise SignatureFault(
            f"{name_of(handler)} ({where(handler)}): its signature cannot be read ({error}). "
            f"Wrap it in a function with annotated parameters."
        ) from error


def _resolve(annotation: object, function: object, handler: object, name: str) -> object:
    if annotation is UNANNOTATED:
        return annotation
    names = _names_around(function, handler, name, annotation)
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return cast(object, get_type_hints(holder, names, names, include_extras=True)["it"])
    except (NameError, AttributeError, SyntaxError, TypeError) as error:
        raise _unresolved(name, annotation, handler, error) from error


def _names_around(
    function: object, handler: object, name: str, annotation: object
) -> dict[str, object]:
    """The globals that an annotation was written among."""
    if isinstance(handler, type):
        # The __init__ that dataclass or attrs made has annotations from bases in other modules.
        for base in handler.__mro__:
            if (
                name in vars(base).get("__annotations__", {})
                and annotation == vars(base)["__annotations__"][name]
            ):
                return dict(vars(sys.modules[base.__module__]))
    plain: object = inspect.unwrap(cast("Callable[..., object]", function))
    plain = getattr(plain, "__func__", plain)
    return cast("dict[str, object]", getattr(plain, "__globals__", {}))


def _unresolved(what: str, annotation: object, handler: object, why: object) -> SignatureFault:
    text = annotation if isinstance(annotation, str) else repr(annotation)
    return SignatureFault(
        f"{name_of(handler)} ({where(handler)}): {what} is annotated {text}, which does not resolve at run time "
        f"({why}). Import the name in that module where it runs, not below `if TYPE_CHECKING:`, and declare it at the "
        f"top of a module, not inside a function."
    )
