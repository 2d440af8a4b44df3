"""Integrations with web frameworks and settings: one file each, and each can go without the others noticing.

`fastapi` and `starlette` need the extras of their names, `settings` the extra `settings`; `asgi` and `problems` are what
the web frameworks share, and need nothing.
"""
