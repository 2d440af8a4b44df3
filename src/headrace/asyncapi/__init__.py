"""The AsyncAPI 3.0 document of an app: what it publishes and reads, where, and in which form.

    headrace.asyncapi.document(app)

The command `headrace asyncapi` writes it.

Source: AsyncAPI Specification 3.0.0, and its bindings for Kafka 0.5.0 and AMQP 0.3.0.
"""

from __future__ import annotations

from headrace.asyncapi.documents import document
from headrace.asyncapi.yaml import to_yaml

__all__ = ["document", "to_yaml"]
