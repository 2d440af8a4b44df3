"""SQLite: the dialect, and connections of Headrace's own."""
