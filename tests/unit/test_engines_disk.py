"""The disk of the tests' Kafka: the part of S3 that Tansu uses."""

from __future__ import annotations

import re

import pytest

from engines.disk import Answer, Bucket, Request


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


def put(bucket: Bucket, name: str, body: bytes = b"", **headers: str) -> Answer:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return bucket.answer(Request("PUT", f"/tansu/{name}", named, body))


def get(bucket: Bucket, target: str, **headers: str) -> Answer:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return bucket.answer(Request("GET", f"/tansu{target}", named))


def keys(answer: Answer) -> list[str]:
    return re.findall("<Key>(.*?)</Key>", answer.body.decode())


def test_what_was_put_is_got(bucket: Bucket) -> None:
    """An object is answered as it was put, with its version; one that is not there is told as S3 does."""
    tag = put(bucket, "a/b", b"x").tag
    assert get(bucket, "/a/b") == Answer(200, b"x", tag)
    assert get(bucket, "/a/c").status == 404
    assert b"NoSuchKey" in get(bucket, "/a/c").body
    bucket.answer(Request("DELETE", "/tansu/a/b"))
    assert get(bucket, "/a/b").status == 404


def test_only_one_of_two_writers_makes_an_object(bucket: Bucket) -> None:
    """A put that wants nothing to be there is refused when something is, and changes nothing."""
    assert put(bucket, "a", b"1", if_none_match="*").status == 200
    assert put(bucket, "a", b"2", if_none_match="*").status == 412
    assert get(bucket, "/a").body == b"1"


def test_a_put_on_another_version_is_refused(bucket: Bucket) -> None:
    """A put that wants a version succeeds on that one alone, and makes another."""
    first = put(bucket, "a", b"1").tag or ""
    second = put(bucket, "a", b"2", if_match=first).tag
    assert second != first
    assert put(bucket, "a", b"3", if_match=first).status == 412
    assert put(bucket, "new", b"3", if_match=first).status == 412
    assert get(bucket, "/a", if_none_match=second or "") == Answer(304, tag=second)


def test_a_list_has_names_with_the_prefix_in_order_a_page_after_another(bucket: Bucket) -> None:
    """A prefix chooses; of more than a thousand names the rest comes with the token of the page before."""
    for number in reversed(range(1500)):
        put(bucket, f"records/{number:04}")
    put(bucket, "record")
    put(bucket, "records0")
    first = get(bucket, "?list-type=2&prefix=records%2F")
    (token,) = re.findall(
        "<NextContinuationToken>(.*)</NextContinuationToken>", first.body.decode()
    )
    second = get(bucket, f"?list-type=2&prefix=records%2F&continuation-token={token}")
    assert keys(first) + keys(second) == [f"records/{number:04}" for number in range(1500)]
    assert b"<IsTruncated>false</IsTruncated>" in second.body


def test_a_delimiter_makes_folders(bucket: Bucket) -> None:
    """What is beneath the delimiter is told once, as a folder."""
    for name in ("t/a/1", "t/a/2", "t/b/1", "t/c"):
        put(bucket, name)
    listed = get(bucket, "?list-type=2&prefix=t%2F&delimiter=%2F")
    assert keys(listed) == ["t/c"]
    assert re.findall("<Prefix>(.*?)</Prefix>", listed.body.decode()) == ["t/a/", "t/b/"]


def test_many_are_deleted_at_once(bucket: Bucket) -> None:
    """A list of names in one request deletes them, and answers which."""
    put(bucket, "a&b")
    put(bucket, "c")
    body = b"<Delete><Object><Key>a&amp;b</Key></Object></Delete>"
    deleted = bucket.answer(Request("POST", "/tansu?delete", {}, body))
    assert keys(deleted) == ["a&amp;b"]
    assert keys(get(bucket, "?list-type=2")) == ["c"]
