"""Headrace on real databases: PostgreSQL, MariaDB and SQLite, each beside the same work by hand on the same server."""
