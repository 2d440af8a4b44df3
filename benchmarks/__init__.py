"""What Headrace costs, as ratios to the same work by hand in the same process: `make bench`, or `python -m benchmarks`.

The modules that peers' interpreters import too (`timing`, `scenarios`, `peers`) need the standard library alone.
"""
