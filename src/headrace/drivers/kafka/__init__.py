"""Kafka: topics on servers that speak its protocol. Needs the extra `kafka`."""

from headrace.errors import MissingExtra

try:
    from headrace.drivers.kafka.broker import KafkaBroker
    from headrace.drivers.kafka.settings import Sasl, Tls
except ModuleNotFoundError as error:
    raise MissingExtra.of(__name__, "kafka", error.name or "confluent_kafka") from error

__all__ = ["KafkaBroker", "Sasl", "Tls"]
