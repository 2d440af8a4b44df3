"""Drivers: one folder a system, each behind an extra. Import a driver from its own package."""
