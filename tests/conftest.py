"""What all tests share. Fixtures of one kind of test stand in the conftest.py of its folder."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

# No deadline: a busy machine is no defect. CI repeats the same examples, so that a failure is the change's own;
# anywhere else hypothesis looks for new ones.
settings.register_profile("local", deadline=None, print_blob=True)
settings.register_profile("ci", parent=settings.get_profile("local"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

# What was started in the background of a script ignores Ctrl-C, and so would all processes that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
