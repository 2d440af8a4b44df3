"""Streams: a topic is one, and its subjects are the partitions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from headrace.broker import PARTITIONS, Topic, stable_hash
from headrace.drivers.nats.link import API, ApiError
from headrace.errors import BrokerUnavailable, ConfigurationError, TopicMismatch, TopicNotFound
from headrace.telemetry import Logbook, LogEvent

if TYPE_CHECKING:
    from headrace.drivers.nats.link import Link
    from headrace.drivers.nats.names import Names
    from headrace.drivers.nats.settings import Streams

_NOT_FOUND: Final = 404
_NAME_IN_USE: Final = 10058
_REPLICAS_UNSUPPORTED: Final = 10074
_OVERLAP: Final = 10065
_SECOND: Final = 1_000_000_000  # durations on the wire are nanoseconds


@dataclass(frozen=True, slots=True)
class Log:
    """A topic as it stands on the server.

    Args:
        topic: its name.
        count: partitions.
        identity: of this stream; another one of the same name, made after this was deleted, has another.
        last: the sequence of its newest message, of any partition.
    """

    topic: str
    count: int
    identity: str
    last: int

    def position(self, sequence: int) -> str:
        """A position as readers keep it: the sequence, and of which stream."""
        return f"{sequence}-{self.identity}"

    def sequence(self, position: str | None) -> int | None:
        """The sequence of a position, or None if it is of no stream or of another one."""
        if position is None:
            return None
        sequence, _, identity = position.partition("-")
        if identity != self.identity or not sequence.isdecimal():
            return None
        return int(sequence)


class Topology:
    """Makes, checks and finds streams.

    Args:
        names: of streams and subjects.
        streams: how new ones are made.
        make: False to make nothing and say what is missing.
    """

    def __init__(self, names: Names, streams: Streams, *, make: bool) -> None:
        self._names = names
        self._streams = streams
        self.makes = make
        """False if nothing may be made."""
        self._warned: set[str] = set()

    async def find(self, link: Link, topic: str) -> Log | None:
        """The topic as it is now, or None.

        Raises:
            TopicMismatch: a stream has its name and is no log of partitions.
            BrokerUnavailable: JetStream does not answer.
        """
        stream = self._names.stream(topic)
        try:
            answer = await link.request(f"STREAM.INFO.{stream}")
        except ApiError as error:
            if error.status == _NOT_FOUND:
                return None
            raise BrokerUnavailable(
                f"the NATS server {link.address} does not tell about stream {stream!r}: {error}"
            ) from error
        config = cast("Mapping[str, object]", answer["config"])
        state = cast("Mapping[str, int]", answer["state"])
        subjects = set(cast("list[str] | None", config.get("subjects")) or ())
        self._check(topic, stream, config, subjects)
        # The time to the nanosecond at which it was made, in few letters.
        identity = f"{stable_hash(str(answer['created'])):x}"
        return Log(topic, len(subjects), identity, state["last_seq"])

    def _check(
        self, topic: str, stream: str, config: Mapping[str, object], subjects: set[str]
    ) -> None:
        if not subjects or subjects != set(self._names.subjects(topic, len(subjects))):
            raise TopicMismatch(
                f"stream {stream!r} has the subjects {', '.join(sorted(subjects)) or 'of other streams'}, which are no "
                f"partitions of topic {topic!r}: its subjects must be {self._names.subject(topic, 0)}, "
                f"{self._names.subject(topic, 1)} and so on. Take another prefix= or another name for the topic."
            )
        if config.get("retention", "limits") != "limits" or config.get("no_ack"):
            raise TopicMismatch(
                f"stream {stream!r} of topic {topic!r} has retention {config.get('retention')!r} and no_ack "
                f"{bool(config.get('no_ack'))}: Headrace needs retention 'limits', which keeps what one group has handled "
                "for the others, and confirmations."
            )
        if config.get("storage") == "memory" and stream not in self._warned:
            self._warned.add(stream)
            Logbook().warning(
                LogEvent.NATS_IN_MEMORY,
                f"Stream {stream!r} of topic {topic!r} keeps messages in memory: they are lost when the server ends. Make it "
                "with --storage file.",
                topic=topic,
            )

    async def behind(self, link: Link, topic: str, subject: str, sequence: int) -> int:
        """How many messages a subject has behind a sequence: a consumer that would begin there knows it."""
        stream = self._names.stream(topic)
        answer = await link.request(
            f"CONSUMER.CREATE.{stream}",
            {
                "stream_name": stream,
                "config": {
                    "deliver_policy": "by_start_sequence",
                    "opt_start_seq": sequence + 1,
                    "filter_subject": subject,
                    "ack_policy": "none",
                    "mem_storage": True,
                    "num_replicas": 1,
                    "inactive_threshold": 10 * _SECOND,
                },
            },
        )
        await link.publish(f"{API}.CONSUMER.DELETE.{stream}.{answer['name']}", b"")
        return cast("int", answer["num_pending"])

    async def declare(self, link: Link, topics: list[Topic], *, bucket: bool) -> dict[str, Log]:
        """Make what is missing, or say it.

        Args:
            link: where.
            topics: those that must be there.
            bucket: True if groups read: then their positions need a place.

        Raises:
            TopicMismatch: a topic has another number of partitions.
            TopicNotFound: something is missing and may not be made.
        """
        found: dict[str, Log] = {}
        missing: list[str] = []
        for topic in topics:
            if topic.partitions is not None and topic.partitions < 1:
                raise ConfigurationError(f"{topic!r}: give 1 partition or more")
            log = await self.find(link, topic.name)
            if log is None and self.makes:
                log = await self._create(link, topic)
            if log is None:
                missing.append(self._command(topic))
                continue
            if topic.partitions not in (None, log.count):
                raise TopicMismatch(
                    f"topic {topic.name!r} has {log.count} partitions on the NATS server and was declared with "
                    f"{topic.partitions}: declare Topic({topic.name!r}, partitions={log.count}), or use another name"
                )
            found[topic.name] = log
        if bucket and not await self._has_bucket(link):
            if self.makes:
                await self.make_bucket(link)
            else:
                missing.append(f"nats kv add {self._names.bucket} --history=1 --storage=file")
        if missing:
            raise TopicNotFound(
                'this NatsBroker makes nothing (declare="check"), and the server lacks what these commands make:\n  '
                + "\n  ".join(missing)
            )
        return found

    def _command(self, topic: Topic) -> str:
        count = topic.partitions or PARTITIONS
        age = f"{self._streams.retention_seconds:g}s" if self._streams.retention_seconds else "-1"
        most = -1 if self._streams.max_bytes is None else self._streams.max_bytes
        return (
            f"nats stream add {self._names.stream(topic.name)} "
            f'--subjects="{",".join(self._names.subjects(topic.name, count))}" --storage=file --retention=limits '
            f"--discard=old --replicas={self._streams.replicas} --max-age={age} --max-bytes={most} "
            f"--dupe-window={self._window_seconds():g}s --defaults"
        )

    def _window_seconds(self) -> float:
        # The server wants it no longer than messages stay.
        kept = self._streams.retention_seconds or self._streams.duplicate_window_seconds
        return min(self._streams.duplicate_window_seconds, kept)

    async def _create(self, link: Link, topic: Topic) -> Log:
        stream = self._names.stream(topic.name)
        settings = self._streams
        config: dict[str, object] = {
            "name": stream,
            "subjects": self._names.subjects(topic.name, topic.partitions or PARTITIONS),
            "retention": "limits",
            "storage": "file",
            "discard": "old",
            "num_replicas": settings.replicas,
            "max_age": int(settings.retention_seconds * _SECOND),
            "max_bytes": -1 if settings.max_bytes is None else settings.max_bytes,
            "duplicate_window": int(self._window_seconds() * _SECOND),
        }
        await self._create_stream(link, config, f"the stream of topic {topic.name!r}")
        log = await self.find(link, topic.name)
        if log is None:
            raise BrokerUnavailable(
                f"stream {stream!r} was made on the NATS server {link.address} and is gone again"
            )
        return log

    async def _create_stream(self, link: Link, config: dict[str, object], what: str) -> None:
        try:
            await link.request(f"STREAM.CREATE.{config['name']}", config)
        except ApiError as error:
            if error.code == _NAME_IN_USE:
                return  # another process was quicker; what it made is looked at by the caller
            if error.code == _OVERLAP:
                raise TopicMismatch(
                    f"{what} cannot be made: another stream has subjects of the same names. Take another prefix= or another "
                    f"name for the topic. The server says: {error}"
                ) from error
            if error.code == _REPLICAS_UNSUPPORTED:
                raise ConfigurationError(
                    f"{what} cannot be made with Streams(replicas={self._streams.replicas}): {error}. A server that is "
                    "in no cluster keeps 1."
                ) from error
            raise BrokerUnavailable(
                f"the NATS server {link.address} does not make {what}: {error}"
            ) from error

    async def _has_bucket(self, link: Link) -> bool:
        try:
            await link.request(f"STREAM.INFO.KV_{self._names.bucket}")
        except ApiError as error:
            if error.status == _NOT_FOUND:
                return False
            raise BrokerUnavailable(
                f"the NATS server {link.address} does not tell about bucket {self._names.bucket!r}: {error}"
            ) from error
        return True

    async def make_bucket(self, link: Link) -> None:
        """Make the bucket with the positions of groups, with the settings that a key-value bucket has."""
        config: dict[str, object] = {
            "name": f"KV_{self._names.bucket}",
            "description": "How far groups of Headrace apps have come",
            "subjects": [f"$KV.{self._names.bucket}.>"],
            "max_msgs_per_subject": 1,
            "storage": "file",
            "discard": "new",
            "num_replicas": self._streams.replicas,
            "duplicate_window": 120 * _SECOND,
            "allow_rollup_hdrs": True,
            "allow_direct": True,
            "deny_delete": True,
        }
        await self._create_stream(link, config, f"the bucket {self._names.bucket!r}")
