"""A cluster that speaks Kafka's protocol and errs as it is told: the mock that librdkafka carries, driven by ctypes.

Real TCP on 127.0.0.1, in threads of this process, in memory. The library is the one inside the confluent-kafka wheel.
Source: https://github.com/confluentinc/librdkafka/blob/master/src/rdkafka_mock.h
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from engines.missing import EngineMissing

_PRODUCER = 0
_CONF_OK = 0

PRODUCE = 0
"""Numbers of requests, for `errors`. Source: https://kafka.apache.org/protocol#protocol_api_keys"""
FETCH = 1
METADATA = 3
OFFSET_COMMIT = 8
JOIN_GROUP = 11
HEARTBEAT = 12
CREATE_TOPICS = 19
INIT_PRODUCER_ID = 22

NOT_LEADER = 6
"""Numbers of errors, for `errors`. Source: https://kafka.apache.org/protocol#protocol_error_codes"""
REQUEST_TIMED_OUT = 7
MESSAGE_TOO_LARGE = 10
NOT_ENOUGH_REPLICAS = 19
REBALANCE_IN_PROGRESS = 27
TOPIC_AUTHORIZATION_FAILED = 29


class MockKafka:
    """A cluster of brokers numbered from 1. Ends with `close`, or at the end of a `with`.

    Args:
        brokers: how many; topics are spread over them.

    Raises:
        EngineMissing: confluent-kafka is not installed, or its library is not the one that its wheel carries.
    """

    def __init__(self, brokers: int = 1) -> None:
        self._library = _library()
        reason = ctypes.create_string_buffer(512)
        conf = self._library.rd_kafka_conf_new()
        # Its log would tell of every broker that a test takes down.
        self._library.rd_kafka_conf_set(conf, b"log_level", b"0", reason, len(reason))
        self._client = self._library.rd_kafka_new(_PRODUCER, conf, reason, len(reason))
        if not self._client:
            raise EngineMissing(f"librdkafka made no client for its mock: {reason.value.decode()}")
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, brokers)
        if not self._cluster:
            self._library.rd_kafka_destroy(self._client)
            raise EngineMissing(f"librdkafka made no mock cluster of {brokers} brokers")
        self.servers: str = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        """`host:port` of each broker, with commas between."""
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)

    @property
    def url(self) -> str:
        """As Headrace takes it."""
        return f"kafka://{self.servers}"

    def topic(self, name: str, *, partitions: int = 4, replicas: int = 1) -> None:
        """Make a topic. Topics that are asked for without this have 4 partitions."""
        made = self._library.rd_kafka_mock_topic_create(
            self._cluster, name.encode(), partitions, replicas
        )
        if made != _CONF_OK:
            raise ValueError(f"the mock made no topic {name!r}: error {made}; a name is taken once")

    def errors(self, request: int, *errors: int) -> None:
        """Answer the next requests of a kind with these errors, one each; 0 lets one pass."""
        numbers = (ctypes.c_int * len(errors))(*errors)
        self._library.rd_kafka_mock_push_request_errors_array(
            self._cluster, request, len(errors), numbers
        )

    def clear_errors(self, request: int) -> None:
        """Forget the errors that are still to come for requests of a kind."""
        self._library.rd_kafka_mock_clear_request_errors(self._cluster, request)

    def topic_error(self, topic: str, error: int) -> None:
        """Answer every metadata request for a topic with an error; 0 ends it."""
        self._library.rd_kafka_mock_topic_set_error(self._cluster, topic.encode(), error)

    def down(self, broker: int = 1) -> None:
        """Close a broker's connections and refuse new ones."""
        self._library.rd_kafka_mock_broker_set_down(self._cluster, broker)

    def up(self, broker: int = 1) -> None:
        """Let a broker answer again."""
        self._library.rd_kafka_mock_broker_set_up(self._cluster, broker)

    def delay(self, seconds: float, broker: int = 1) -> None:
        """Answer everything on a broker this much later."""
        self._library.rd_kafka_mock_broker_set_rtt(self._cluster, broker, round(seconds * 1000))

    def leader(self, topic: str, partition: int, broker: int) -> None:
        """Make a broker the leader of a partition."""
        self._library.rd_kafka_mock_partition_set_leader(
            self._cluster, topic.encode(), partition, broker
        )

    def coordinator(self, group: str, broker: int) -> None:
        """Make a broker the coordinator of a consumer group."""
        self._library.rd_kafka_mock_coordinator_set(self._cluster, b"group", group.encode(), broker)

    def close(self) -> None:
        """End the cluster. A second call does nothing."""
        if self._cluster:
            self._library.rd_kafka_mock_cluster_destroy(self._cluster)
            self._library.rd_kafka_destroy(self._client)
            self._cluster = self._client = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@cache
def _library() -> Any:
    spec = importlib.util.find_spec("confluent_kafka")
    if spec is None or spec.origin is None:
        raise EngineMissing(
            "the mock of Kafka is in confluent-kafka; pip install 'headrace[kafka]'"
        )
    # Loading it twice is loading it once: the client and the mock share the library.
    importlib.import_module("confluent_kafka")
    folder = Path(spec.origin).parent.parent / "confluent_kafka.libs"
    found = sorted(folder.glob("librdkafka*.so*"))
    if not found:
        raise EngineMissing(f"no librdkafka in {folder}: install confluent-kafka from its wheel")
    library = ctypes.CDLL(str(found[0]))
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "conf_new": (pointer, []),
        "conf_set": (number, [pointer, text, text, text, ctypes.c_size_t]),
        "new": (pointer, [number, pointer, text, ctypes.c_size_t]),
        "destroy": (None, [pointer]),
        "mock_cluster_new": (pointer, [pointer, number]),
        "mock_cluster_destroy": (None, [pointer]),
        "mock_cluster_bootstraps": (text, [pointer]),
        "mock_topic_create": (number, [pointer, text, number, number]),
        "mock_topic_set_error": (None, [pointer, text, number]),
        "mock_push_request_errors_array": (
            None,
            [pointer, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(number)],
        ),
        "mock_clear_request_errors": (None, [pointer, ctypes.c_int16]),
        "mock_broker_set_down": (number, [pointer, ctypes.c_int32]),
        "mock_broker_set_up": (number, [pointer, ctypes.c_int32]),
        "mock_broker_set_rtt": (number, [pointer, ctypes.c_int32, number]),
        "mock_partition_set_leader": (number, [pointer, text, ctypes.c_int32, ctypes.c_int32]),
        "mock_coordinator_set": (number, [pointer, text, text, ctypes.c_int32]),
        "mock_group_initial_rebalance_delay_ms": (None, [pointer, ctypes.c_int32]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, f"rd_kafka_{name}")
        function.restype = result
        function.argtypes = arguments
    return library
