"""Codecs: events to bytes and back. The body is the event alone; identity and time are in the envelope."""

from __future__ import annotations

import re
from typing import Final, Protocol, TypeVar, cast

import msgspec

from headrace.errors import DecodeError, EncodeError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_STRINGS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_BRACKETS: Final = re.compile(rb"[\[{]|[\]}]")


class Codec(Protocol):
    """How the bodies of notifications are written and read. Does no I/O; safe to call from several threads."""

    @property
    def content_type(self) -> str:
        """The media type of the bodies, the `datacontenttype` of their envelopes."""
        ...

    def encode(self, event: object) -> bytes:
        """The event as bytes.

        Raises:
            EncodeError: it cannot be written, or not so that it could be read again.
        """
        ...

    def decode(self, data: bytes, cls: type[T]) -> T:
        """The event of a class from bytes that may come from anybody (G14). Builds objects of the declared types only.

        Raises:
            DecodeError: the bytes do not fit the class, or are nested too deep.
        """
        ...


class JsonCodec:
    """JSON: dataclasses, msgspec Structs and attrs classes by msgspec, pydantic models by themselves.

    Strict: the text "1" is no int. Fields that the class does not know are ignored, so that a producer may add some. What
    a pydantic model accepts is the model's own decision.

    Args:
        max_depth: how deep lists and objects may be nested in what is read. Default 64: deeper than events are, and far
            from exhausting the stack of any parser.
    """

    __slots__ = ("_decoders", "_encode", "_max_depth")

    content_type = "application/json"

    def __init__(self, *, max_depth: int = 64) -> None:
        self._max_depth = max_depth
        self._encode = msgspec.json.Encoder(enc_hook=_write_foreign).encode
        self._decoders: dict[type, msgspec.json.Decoder[object]] = {}

    def encode(self, event: object) -> bytes:
        """See `Codec.encode`."""
        try:
            if _is_pydantic(type(event)):
                data = cast(_PydanticModel, event).model_dump_json(by_alias=True).encode()
            else:
                data = self._encode(event)
        except (
            TypeError,
            ValueError,
            OverflowError,
            RecursionError,
            msgspec.MsgspecError,
        ) as error:
            raise EncodeError(
                f"{_name(type(event))} cannot be written as JSON: {error}. Give its fields types that JSON or msgspec "
                f"know, or pass a codec of your own."
            ) from error
        # JSON has no NaN: it is written as null, which a field of type float refuses where the event is consumed.
        if b"null" in data:
            self._check_nulls(data, type(event))
        return data

    def decode(self, data: bytes, cls: type[T]) -> T:
        """See `Codec.decode`."""
        self._check_depth(data, cls)
        try:
            decoder = self._decoders.get(cls)
            if decoder is None:
                if _is_pydantic(cls):
                    model = cast("_PydanticClass[T]", cls)
                    return model.model_validate_json(data, by_alias=True, by_name=True)
                decoder = self._decoders[cls] = msgspec.json.Decoder(
                    cast("type[object]", cls), dec_hook=_read_foreign
                )
            return cast(T, decoder.decode(data))
        except (TypeError, ValueError, NameError, RecursionError, msgspec.MsgspecError) as error:
            raise DecodeError(
                f"a body of {len(data)} bytes does not fit {_name(cls)}: {error}"
            ) from error

    def _check_nulls(self, data: bytes, cls: type) -> None:
        try:
            self.decode(data, cls)
        except DecodeError as error:
            cause = error.__cause__
            if _is_the_class(cause):  # whatever its values: it is only ever written
                return
            raise EncodeError(
                f"{_name(cls)} would be written as JSON that it cannot be read from again: {cause}. "
                f"NaN and infinity become null: give the field a value or the type `float | None`."
            ) from error

    def _check_depth(self, data: bytes, cls: type) -> None:
        if data.count(b"{") + data.count(b"[") <= self._max_depth:
            return
        depth = 0
        for bracket in _BRACKETS.finditer(_STRINGS.sub(b"", data)):
            depth += 1 if bracket[0] in b"[{" else -1
            if depth > self._max_depth:
                raise DecodeError(
                    f"a body of {len(data)} bytes for {_name(cls)} is nested deeper than {self._max_depth}. If such events "
                    f"are meant, pass JsonCodec(max_depth=...)."
                )


def unreadable(codec: Codec, cls: type) -> str | None:
    """Why no bytes at all could be read as this class, as far as it can be told without an event; None if they could."""
    try:
        codec.decode(b"{}", cls)
    except DecodeError as error:
        # A body that does not fit is no fault of the class; one that has no fields or types that cannot be read is.
        if _is_the_class(error.__cause__):
            return str(error)
    return None


def _is_the_class(cause: BaseException | None) -> bool:
    never_readable = TypeError | NameError
    return isinstance(cause, never_readable) or isinstance(
        getattr(cause, "__cause__", None), never_readable
    )


class _PydanticModel(Protocol):
    def model_dump_json(self, *, by_alias: bool) -> str: ...


class _PydanticClass(Protocol[T_co]):
    def model_validate_json(self, data: bytes, *, by_alias: bool, by_name: bool) -> T_co: ...


def _is_pydantic(cls: type) -> bool:
    return hasattr(cls, "model_validate_json")


def _write_foreign(value: object) -> object:
    """A pydantic model inside an event of another kind."""
    if _is_pydantic(type(value)):
        return msgspec.Raw(cast(_PydanticModel, value).model_dump_json(by_alias=True).encode())
    raise TypeError(f"objects of type {_name(type(value))} are not supported")


def _read_foreign(cls: type, value: object) -> object:
    if _is_pydantic(cls):
        model = cast("_PydanticClass[object]", cls)
        return model.model_validate_json(msgspec.json.encode(value), by_alias=True, by_name=True)
    if cls is object:
        return value
    raise TypeError(f"objects of type {_name(cls)} are not supported")


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
