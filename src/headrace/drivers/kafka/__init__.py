"""Kafka: topics on servers that speak its protocol. Needs the extra `kafka`."""

from headrace.drivers.kafka.broker import KafkaBroker
from headrace.drivers.kafka.settings import Sasl, Tls

__all__ = ["KafkaBroker", "Sasl", "Tls"]
