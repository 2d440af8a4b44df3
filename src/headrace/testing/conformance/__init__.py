"""Kits that certify storage and broker drivers: the contract of `headrace.storage` and `headrace.broker`, as tests."""

from headrace.testing.conformance.broker import BrokerKit
from headrace.testing.conformance.kit import Kit, needs
from headrace.testing.conformance.storage import StorageKit

__all__ = ["BrokerKit", "Kit", "StorageKit", "needs"]
