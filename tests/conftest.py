"""What all tests share. Fixtures of one kind of test stand in the conftest.py of its folder."""

from __future__ import annotations

import os

from hypothesis import settings

# No deadline: a busy machine is no defect. CI repeats the same examples, so that a failure is the change's own;
# anywhere else hypothesis looks for new ones.
settings.register_profile("local", deadline=None, print_blob=True)
settings.register_profile("ci", parent=settings.get_profile("local"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
