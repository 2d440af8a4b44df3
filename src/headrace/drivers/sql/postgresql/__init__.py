"""PostgreSQL: the dialect, its statements, and lines to connections of asyncpg and psycopg."""
