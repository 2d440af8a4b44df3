"""Storage and broker in memory: for tests, and for apps that may lose what they hold when they end."""

from headrace.drivers.memory.broker import MemoryBroker
from headrace.drivers.memory.database import MemoryDatabase
from headrace.drivers.memory.storage import MemoryStorage

__all__ = ["MemoryBroker", "MemoryDatabase", "MemoryStorage"]
