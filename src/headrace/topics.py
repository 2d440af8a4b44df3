"""Topics come into being when an app first needs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from headrace.broker import Topic
from headrace.errors import TopicNotFound

if TYPE_CHECKING:
    from headrace.broker import Broker


async def ensure_topic(broker: Broker, topics: Mapping[str, Topic], name: str) -> int:
    """Make the topic unless it exists, and return its number of partitions.

    A topic without settings in this app may belong to another app: then its partitions are as they are. Only one that the
    app has settings for must agree with them.

    Args:
        broker: where.
        topics: the app's settings, by name.
        name: the topic.

    Raises:
        TopicMismatch: it exists with another number of partitions than the app's settings say.
        BrokerUnavailable: the broker cannot be reached.
    """
    settings = topics.get(name)
    if settings is None:
        try:
            return await broker.partitions(name)
        except TopicNotFound:
            settings = Topic(name)
    await broker.declare([settings])
    return await broker.partitions(name)
