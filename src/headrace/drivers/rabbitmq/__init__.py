"""Broker on RabbitMQ, through aiormq."""

from headrace.drivers.rabbitmq.broker import RabbitBroker
from headrace.drivers.rabbitmq.settings import Tls

__all__ = ["RabbitBroker", "Tls"]
