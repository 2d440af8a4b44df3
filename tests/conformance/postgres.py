"""Databases of PostgreSQL for the kits: one for a driver, emptied between clauses."""

from __future__ import annotations

import uuid
from functools import cache
from urllib.parse import urlsplit

import asyncpg

from tests.servers import engine


@cache
def server() -> str:
    """Where the server is, without a database."""
    return f"postgresql://{urlsplit(engine('postgresql').url).netloc}"


async def create() -> str:
    """A new database. Returns its name."""
    name = f"headrace_kit_{uuid.uuid4().hex[:12]}"
    connection = await asyncpg.connect(f"{server()}/postgres")
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()
    return name


async def drop(name: str) -> None:
    """Drop it, whoever is still connected."""
    connection = await asyncpg.connect(f"{server()}/postgres")
    try:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    finally:
        await connection.close()


async def empty(name: str) -> None:
    """Take all rows out of Headrace's tables, if they are there; keep the version of the schema."""
    connection = await asyncpg.connect(f"{server()}/{name}")
    try:
        tables = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE tablename LIKE 'headrace_%' AND tablename <> 'headrace_meta'"
        )
        if tables:
            # DELETE, not TRUNCATE: on tables as small as these it is many times quicker.
            names = [row["tablename"] for row in tables]
            names.sort(key=lambda each: each == "headrace_topic")
            await connection.execute("; ".join(f"DELETE FROM {each}" for each in names))
            await connection.execute("DELETE FROM headrace_meta WHERE app <> ''")
    finally:
        await connection.close()


def url(driver: str, name: str) -> str:
    """The URL of a database for SQLAlchemy."""
    return f"{server().replace('postgresql:', f'postgresql+{driver}:')}/{name}"
