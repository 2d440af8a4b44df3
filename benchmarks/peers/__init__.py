"""The same scenarios in other frameworks, each run by the interpreter of its own environment.

An adapter module is run as `python -m benchmarks.peers.<name>`; it needs nothing but the framework and the standard
library, and writes what it measured to its output, as JSON.
"""
