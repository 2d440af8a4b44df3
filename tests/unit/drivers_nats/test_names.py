"""Names of any kind become tokens of subjects, and come back."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.drivers.nats.names import Names, escaped, unescaped
from headrace.errors import ConfigurationError


@given(st.text(max_size=20))
def test_a_name_comes_back(name: str) -> None:
    """Every name has a token of its own, of letters that streams, subjects and buckets may have."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return
    token = escaped(name)
    assert re.fullmatch(r"[A-Za-z0-9_=-]+", token)
    assert unescaped(token) == name


def test_plain_names_stay_readable() -> None:
    """Letters, digits, hyphens and underscores stay as they are; other characters are their bytes."""
    names = Names("shop-")
    assert names.stream("order_lines-2") == "shop-order_lines-2"
    assert names.subject("orders.eu", 3) == "shop-orders=2Eeu.3"
    assert names.stream("ü") == "shop-=C3=BC"
    assert names.position_subject("g 1", "t", 0) == "$KV.shop-headrace_positions.g=201.t.0"


def test_a_name_that_is_too_long_is_refused() -> None:
    """A name that no stream can have is an error that says how long it may be."""
    with pytest.raises(ConfigurationError, match="200 are allowed"):
        escaped("ö" * 100)
