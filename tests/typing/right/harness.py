"""The harness lets right code pass."""

from typing import assert_type

numbers: list[int] = [1, 2, 3]
assert_type(sum(numbers), int)
