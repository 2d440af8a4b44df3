"""Broker on RabbitMQ, through aiormq."""

from headrace.errors import MissingExtra

try:
    from headrace.drivers.rabbitmq.broker import RabbitBroker
    from headrace.drivers.rabbitmq.settings import Tls
except ModuleNotFoundError as error:
    raise MissingExtra.of(__name__, "rabbitmq", error.name or "aiormq") from error

__all__ = ["RabbitBroker", "Tls"]
