"""Topics on the servers: what there is, what is missing, making it. All of it blocks: run it in a thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final, cast

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from headrace.broker import PARTITIONS, Topic
from headrace.drivers.kafka.names import server_name
from headrace.drivers.kafka.settings import LOGGER, Settings
from headrace.errors import BrokerUnavailable, ConfigurationError, TopicMismatch, TopicNotFound

if TYPE_CHECKING:
    from concurrent.futures import Future

    from confluent_kafka.admin._metadata import ClusterMetadata, TopicMetadata

_ABSENT: Final = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC})
_SEEN_SECONDS: Final = 10.0
_MOST_ERRORS: Final = 20


@dataclass(frozen=True, slots=True)
class Found:
    """A topic on the servers: its partitions, and on how many servers the one with the fewest copies is."""

    partitions: int
    copies: int


class Topology:
    """Asks and tells the servers about topics, through a client that asks for metadata without making topics.

    Args:
        settings: of the broker.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._last: list[KafkaError] = []
        try:
            self._asking = Consumer(
                {
                    **settings.admin(),
                    "group.id": "headrace-topology",
                    "enable.auto.commit": False,
                    "allow.auto.create.topics": False,
                    "error_cb": self._last.append,
                    "fetch.wait.max.ms": 10,  # it fetches nothing; this only has to be less than the time-out
                },
                logger=LOGGER,
            )
        except KafkaException as error:
            raise ConfigurationError(
                f"KafkaBroker: the Kafka client refuses its settings: {error.args[0].str()}."
            ) from error

    def close(self) -> None:
        """Close the connections."""
        self._asking.close()

    def servers(self) -> int:
        """The number of servers; proves that they can be reached."""
        return len(self._metadata(None).brokers)

    def find(self, name: str) -> Found | None:
        """The topic of this name on the servers, or None.

        Raises:
            BrokerUnavailable: the servers cannot be reached, or do not say.
        """
        found = self._metadata(name).topics.get(name)
        if found is None:
            return None
        if found.error is not None:
            if found.error.code() in _ABSENT:
                return None
            raise BrokerUnavailable(
                f"the Kafka servers at {self._settings.where} say of topic {name!r}: {found.error.str()}."
            )
        if not found.partitions:
            return None
        return Found(len(found.partitions), _copies(found))

    def not_found(self, topic: str) -> TopicNotFound:
        """The error for a topic that is not there, with the nearest name that is."""
        name = server_name(topic, self._settings.prefix)
        near = get_close_matches(name, list(self._metadata(None).topics), n=1)
        hint = f"Did you mean {near[0]!r}? If not, " if near else ""
        return TopicNotFound(
            f"the Kafka servers at {self._settings.where} have no topic {name!r}. {hint}call `await "
            f"broker.declare([Topic({topic!r})])` first."
        )

    def declare(self, topics: Sequence[Topic], needed: Sequence[str]) -> dict[str, Found]:
        """Make or check topics; `needed` are those that must be there already. Returns all, by their names in the app.

        Raises:
            TopicMismatch: a topic has another number of partitions.
            TopicNotFound: a topic is missing that may not be made here.
        """
        found: dict[str, Found] = {}
        missing: list[Topic] = []
        for topic in topics:
            there = self.find(self._name(topic))
            if there is None:
                missing.append(topic)
            else:
                self._compare(topic, there)
                found[topic.name] = there
        for name in needed:
            if name not in found and all(topic.name != name for topic in missing):
                there = self.find(server_name(name, self._settings.prefix))
                if there is None:
                    raise self.not_found(name)
                found[name] = there
        if missing and self._settings.declare == "check":
            commands = "\n".join(f"  {self._command(topic)}" for topic in missing)
            raise TopicNotFound(
                f"the Kafka servers at {self._settings.where} lack {len(missing)} of the topics that this app needs, and "
                f'declare="check" forbids to make them. Make them with\n{commands}'
            )
        for topic in missing:
            found[topic.name] = self._make(topic)
        return found

    def _make(self, topic: Topic) -> Found:
        name, seconds = self._name(topic), self._settings.timeout_seconds
        new = NewTopic(
            name,
            topic.partitions or PARTITIONS,
            self._settings.replication or -1,
            config=self._settings.new_topic_config(),
        )
        # The stub knows no callbacks, which the client takes like the others.
        client = AdminClient(
            cast("dict[str, str | int | float | bool]", self._settings.admin()), logger=LOGGER
        )
        try:
            # The stub does not say of what the futures are: of nothing.
            create = cast("Callable[..., Mapping[str, Future[None]]]", client.create_topics)  # pyright: ignore[reportUnknownMemberType]
            made = create([new], operation_timeout=seconds, request_timeout=seconds)[name]
            made.result(timeout=2 * seconds)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise self._refused(name, error) from error
        except TimeoutError as error:
            raise BrokerUnavailable(
                f"the Kafka servers at {self._settings.where} did not make topic {name!r} in time."
            ) from error
        # Another app may have made it a moment ago, and servers learn of a topic one after another.
        until = time.monotonic() + _SEEN_SECONDS
        while (there := self.find(name)) is None:
            if time.monotonic() > until:
                raise BrokerUnavailable(
                    f"the Kafka servers at {self._settings.where} made topic {name!r} and do not know it."
                )
            time.sleep(0.02)
        self._compare(topic, there)
        return there

    def _compare(self, topic: Topic, there: Found) -> None:
        if topic.partitions is not None and there.partitions != topic.partitions:
            raise TopicMismatch(
                f"topic {self._name(topic)!r} has {there.partitions} partitions on the Kafka servers and was declared with "
                f"{topic.partitions}. Declare Topic({topic.name!r}, partitions={there.partitions}), or use another name: more "
                "partitions would move keys to others, behind messages that are not handled yet."
            )

    def _refused(self, name: str, error: KafkaException) -> Exception:
        cause: KafkaError = error.args[0]
        if cause.code() in (
            KafkaError.INVALID_CONFIG,
            KafkaError.INVALID_REPLICATION_FACTOR,
            KafkaError.INVALID_PARTITIONS,
            KafkaError.TOPIC_EXCEPTION,
            KafkaError.POLICY_VIOLATION,
        ):
            return ConfigurationError(f"the Kafka servers refuse topic {name!r}: {cause.str()}.")
        return BrokerUnavailable(
            f"topic {name!r} could not be made on the Kafka servers at {self._settings.where}: {cause.str()}. Where the app may "
            f'not make topics, let somebody else make it and pass declare="check".'
        )

    def _metadata(self, name: str | None) -> ClusterMetadata:
        seconds = self._settings.timeout_seconds
        self._last.clear()
        try:
            if name is None:
                return cast("ClusterMetadata", self._asking.list_topics(timeout=seconds))
            return cast("ClusterMetadata", self._asking.list_topics(name, timeout=seconds))
        except KafkaException as error:
            for _ in range(_MOST_ERRORS):
                self._asking.poll(0.0)  # brings what the connections said, one by one
            last = next((e for e in self._last if e.code() != KafkaError._ALL_BROKERS_DOWN), None)
            why = (last or error.args[0]).str()
            raise BrokerUnavailable(
                f"no Kafka server answered at {self._settings.where} within {seconds:g} seconds: {why}."
            ) from error

    def _name(self, topic: Topic) -> str:
        return server_name(topic.name, self._settings.prefix)

    def _command(self, topic: Topic) -> str:
        copies = self._settings.replication
        return (
            f"kafka-topics.sh --bootstrap-server {self._settings.where} --create --topic {self._name(topic)} "
            f"--partitions {topic.partitions or PARTITIONS}"
            + (f" --replication-factor {copies}" if copies else "")
            + "".join(f" --config {k}={v}" for k, v in self._settings.new_topic_config().items())
        )


def _copies(topic: TopicMetadata) -> int:
    return min(len(partition.replicas) for partition in topic.partitions.values())
