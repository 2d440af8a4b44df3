"""The drivers of brokers, each beside its client by hand: alone, behind a relay from PostgreSQL, and before a consumer.

A module for each broker opens the driver and the client by hand (`Opened`), and removes at the end what both made.
"""
