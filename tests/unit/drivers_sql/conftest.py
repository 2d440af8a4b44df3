"""A storage on a file of its own, and tables of a user's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from headrace.drivers.sql import SqlStorage


class Base(DeclarativeBase):
    metadata = MetaData()


class Account(Base):
    __tablename__ = "account"

    name: Mapped[str] = mapped_column(primary_key=True)
    balance: Mapped[int] = mapped_column(default=0)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path / 'app.db'}"


@pytest.fixture
async def storage(url: str) -> AsyncIterator[SqlStorage]:
    storage = SqlStorage(url, metadata=Base.metadata, busy_seconds=5.0)
    await storage.start("app", partitions=4)
    yield storage
    await storage.stop()
