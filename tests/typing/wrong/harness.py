"""The harness catches wrong code on its line."""

import asyncio

count: int = "one"  # E: reportAssignmentType
right: int = 1
asyncio.run(count)  # E: Coroutine
