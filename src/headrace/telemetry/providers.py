"""Finds out whether an OpenTelemetry SDK is set up, without importing anything that nobody has imported."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider


P = TypeVar("P")


def tracer_provider() -> TracerProvider | None:
    """The process's provider of tracers, if somebody has set one up."""
    trace = sys.modules.get("opentelemetry.trace")
    return _real(trace.get_tracer_provider()) if trace is not None else None


def meter_provider() -> MeterProvider | None:
    """The process's provider of meters, if somebody has set one up."""
    metrics = sys.modules.get("opentelemetry.metrics")
    return _real(metrics.get_meter_provider()) if metrics is not None else None


def version() -> str:
    """The version of Headrace that is installed, or "" in a source tree that is not."""
    try:
        return metadata.version("headrace")
    except metadata.PackageNotFoundError:
        return ""


def error_type(error: BaseException) -> str:
    """`error.type` of an exception: its qualified name."""
    kind = type(error)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _real(provider: P) -> P | None:
    # Those of the API itself do nothing: no SDK has been set.
    home = type(provider).__module__
    return None if home.startswith(("opentelemetry.trace", "opentelemetry.metrics")) else provider
