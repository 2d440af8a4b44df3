"""Kits that certify drivers: the contracts of `Storage`, `Broker`, `Container` and `Codec`, as tests."""

from headrace.testing.conformance.broker import BrokerKit
from headrace.testing.conformance.codec import CodecKit
from headrace.testing.conformance.container import ContainerKit
from headrace.testing.conformance.container_steps import Recipe
from headrace.testing.conformance.kit import Kit, needs
from headrace.testing.conformance.storage import StorageKit

__all__ = ["BrokerKit", "CodecKit", "ContainerKit", "Kit", "Recipe", "StorageKit", "needs"]
