"""Tools for tests of apps built on Headrace, and for certifying drivers (`headrace.testing.conformance`)."""
