"""What the adapters of other outboxes share: the message, and how they are called and answer."""

import json
import sys
from collections.abc import Callable

KEYS = 200
TEXT = "x" * 1000
BODY = b'{"k":"k1","text":"' + TEXT.encode() + b'"}'


def plain(url: str) -> str:
    """The URL as asyncpg takes it."""
    return url.replace("postgresql+asyncpg", "postgresql")


def main(measure: Callable[[str, int, int], list[float]]) -> None:
    """Write the seconds for each message, a number for each round."""
    url, count, rounds = sys.argv[1:]
    print(json.dumps(measure(url, int(count), int(rounds))))
