"""MariaDB and MySQL: the dialect, its errors and statements, and the line to a connection of asyncmy."""
