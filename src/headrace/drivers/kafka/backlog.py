"""How many records stand behind positions, from what the servers answer to a fetch. It blocks: run it in a thread."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from headrace.drivers.kafka.settings import LOGGER, Settings
from headrace.errors import BrokerUnavailable

_SETTINGS: Final[Mapping[str, str | int | bool]] = {
    "enable.partition.eof": True,
    "auto.offset.reset": "earliest",
    # Only where a partition begins and ends is asked, so next to nothing is fetched.
    "fetch.message.max.bytes": 1024,
    "queued.min.messages": 1,
    "queued.max.messages.kbytes": 64,
    "fetch.wait.max.ms": 10,
}


def count_behind(
    settings: Settings, group: str, topic: str, after: Mapping[int, int | None]
) -> int:
    """The records behind these offsets, None for where the group is.

    Counts offsets, so what compaction or an aborted transaction took out is counted too.

    Source: the high watermark in answers to fetches. Some servers answer it wrongly to the request made for it (Tansu 0.6).

    Raises:
        BrokerUnavailable: a partition did not answer.
    """
    consumer = Consumer({**settings.consumer(group), **_SETTINGS}, logger=LOGGER)
    try:
        starts = {p: None if offset is None else offset + 1 for p, offset in after.items()}
        unknown = [TopicPartition(topic, p) for p, start in starts.items() if start is None]
        if unknown:
            for known in consumer.committed(unknown, timeout=settings.timeout_seconds):
                starts[known.partition] = known.offset if known.offset >= 0 else OFFSET_BEGINNING
        asked = {p: OFFSET_BEGINNING if start is None else start for p, start in starts.items()}
        return _count(settings, consumer, topic, asked)
    except KafkaException as error:
        raise BrokerUnavailable(
            f"the Kafka servers at {settings.where} do not tell the backlog of topic {topic!r}: {error.args[0].str()}."
        ) from error
    finally:
        consumer.close()


def _count(settings: Settings, consumer: Consumer, topic: str, asked: Mapping[int, int]) -> int:
    consumer.assign([TopicPartition(topic, p, start) for p, start in asked.items()])
    until = time.monotonic() + settings.timeout_seconds
    behind: dict[int, int] = {}
    while len(behind) < len(asked) and time.monotonic() < until:
        first = consumer.poll(0.05)
        partition = None if first is None else first.partition()
        if first is None or partition is None or partition in behind:
            continue
        error = first.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            continue
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), cached=True)
        behind[partition] = max(0, end - (first.offset() or 0))
        consumer.incremental_unassign([TopicPartition(topic, partition)])
    if len(behind) < len(asked):
        silent = sorted(set(asked) - set(behind))
        raise BrokerUnavailable(
            f"partitions {silent} of topic {topic!r} on {settings.where} did not answer within "
            f"{settings.timeout_seconds:g} seconds."
        )
    return sum(behind.values())
