"""Topics come into being when an app first needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from headrace.broker import Topic

if TYPE_CHECKING:
    from headrace.broker import Broker, Reading


async def ensure_topic(
    broker: Broker, topics: Mapping[str, Topic], name: str, readings: Sequence[Reading] = ()
) -> int:
    """Make the topic unless it exists, and return its number of partitions.

    A topic without settings in this app may belong to another app: then its partitions are as they are. Only one that the
    app has settings for must agree with them.

    Args:
        broker: where.
        topics: the app's settings, by name.
        name: the topic.
        readings: groups that are to read it.

    Raises:
        TopicMismatch: it exists with another number of partitions than the app's settings say.
        BrokerUnavailable: the broker cannot be reached.
    """
    await broker.declare([topics.get(name) or Topic(name)], readings)
    return await broker.partitions(name)
