"""Tools for tests of apps built on Headrace, and for certifying drivers (`headrace.testing.conformance`)."""

from headrace.testing.harness import Harness

__all__ = ["Harness"]
