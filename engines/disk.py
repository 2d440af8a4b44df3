"""A disk for Tansu: the part of S3 that it uses, in the memory of a process of its own.

A program: `python disk.py PORT`. What was put stays until the process ends, so a broker that is killed finds all that it has
confirmed. It checks no signature, serves one bucket, and imports nothing of Headrace, so that it starts quickly and answers a
request in a tenth of a millisecond: Tansu makes several for each fetch of each partition.
"""

from __future__ import annotations

import asyncio
import re
import sys
from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape, unescape

_LISTED = 1000
_HEAD_END = b"\r\n\r\n"
_WHEN = "2026-01-01T00:00:00.000Z"
_KEY = re.compile(r"<Key>(.*?)</Key>", re.DOTALL)
_REASONS = {
    200: "OK",
    204: "No Content",
    304: "Not Modified",
    400: "Bad Request",
    404: "Not Found",
    412: "Precondition Failed",
}


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked.

    Args:
        method: GET, HEAD, PUT, POST or DELETE.
        target: path and query, as they came.
        headers: by name in small letters.
        body: all of it.
    """

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said to it.

    Args:
        status: of HTTP.
        body: all of it; default nothing.
        tag: the version of the object, or None.
    """

    status: int
    body: bytes = b""
    tag: str | None = None

    def bytes(self, *, head_only: bool) -> bytes:
        """As it goes on the wire; a HEAD tells the length of the body and has none."""
        lines = [f"HTTP/1.1 {self.status} {_REASONS[self.status]}"]
        if self.status not in (204, 304):
            lines.append(f"Content-Length: {len(self.body)}")
        if self.tag is not None:
            lines += [f"ETag: {self.tag}", "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT"]
        return "\r\n".join(lines).encode() + _HEAD_END + (b"" if head_only else self.body)


class Bucket:
    """Objects by name, each with a version that grows: a put under a condition is how Tansu keeps two writers apart.

    Source: Amazon S3 API Reference, "ListObjectsV2", "PutObject" and "GetObject" with their conditional headers.
    """

    def __init__(self) -> None:
        self._objects: dict[str, tuple[str, bytes]] = {}
        self._names: list[str] = []
        self._puts = 0

    def answer(self, request: Request) -> Answer:
        """Do what was asked."""
        url = urlsplit(request.target)
        name = unquote(url.path.strip("/").partition("/")[2])
        query = parse_qs(url.query, keep_blank_values=True)
        if not name:
            if request.method == "POST" and "delete" in query:
                return self._delete_all(request.body)
            if request.method == "PUT":
                return Answer(200)
            return self._list(query) if request.method == "GET" else Answer(400)
        if request.method == "PUT":
            return self._put(name, request)
        if request.method in ("GET", "HEAD"):
            return self._get(name, request)
        if request.method == "DELETE":
            self._delete(name)
            return Answer(204)
        return Answer(400)

    def _put(self, name: str, request: Request) -> Answer:
        found = self._objects.get(name)
        if not _permitted(request.headers, None if found is None else found[0]):
            return _error(412, "PreconditionFailed", name)
        self._puts += 1
        tag = f'"{self._puts}"'
        if found is None:
            insort(self._names, name)
        self._objects[name] = (tag, request.body)
        return Answer(200, tag=tag)

    def _get(self, name: str, request: Request) -> Answer:
        found = self._objects.get(name)
        if found is None:
            return _error(404, "NoSuchKey", name)
        tag, body = found
        if request.headers.get("if-none-match") == tag:
            return Answer(304, tag=tag)
        if not _permitted(request.headers, tag):
            return _error(412, "PreconditionFailed", name)
        return Answer(200, body, tag)

    def _delete(self, name: str) -> None:
        if self._objects.pop(name, None) is not None:
            del self._names[bisect_left(self._names, name)]

    def _delete_all(self, body: bytes) -> Answer:
        names = [unescape(name) for name in _KEY.findall(body.decode())]
        for name in names:
            self._delete(name)
        done = "".join(f"<Deleted><Key>{escape(name)}</Key></Deleted>" for name in names)
        return _xml(f"<DeleteResult>{done}</DeleteResult>")

    def _list(self, query: Mapping[str, Sequence[str]]) -> Answer:
        """The next page of names with a prefix; what is beneath a delimiter behind it is told as one folder."""
        prefix = query.get("prefix", [""])[0]
        delimiter = query.get("delimiter", [""])[0]
        after = max(query.get(one, [""])[0] for one in ("continuation-token", "start-after"))
        begin = bisect_right(self._names, after) if after >= prefix else 0
        begin = max(begin, bisect_left(self._names, prefix))
        end = bisect_left(self._names, prefix + "\U0010ffff")
        page = self._names[begin : min(end, begin + _LISTED)]
        parts: dict[str, None] = {}
        for name in page:
            cut = name.find(delimiter, len(prefix)) if delimiter else -1
            if cut >= 0:
                folder = escape(name[: cut + len(delimiter)])
                parts[f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"] = None
            else:
                tag, body = self._objects[name]
                parts[
                    f"<Contents><Key>{escape(name)}</Key><LastModified>{_WHEN}</LastModified><ETag>{tag}</ETag>"
                    f"<Size>{len(body)}</Size></Contents>"
                ] = None
        more = "<IsTruncated>false</IsTruncated>"
        if begin + len(page) < end:
            token = escape(page[-1])
            more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>"
        return _xml(f"<ListBucketResult>{more}{''.join(parts)}</ListBucketResult>")


def _permitted(headers: Mapping[str, str], tag: str | None) -> bool:
    """Whether the object's version, None if it is not there, is one that the request wants."""
    wanted, unwanted = headers.get("if-match"), headers.get("if-none-match")
    if wanted is not None and tag != wanted and not (wanted == "*" and tag is not None):
        return False
    return unwanted is None or not (tag == unwanted or (unwanted == "*" and tag is not None))


def _error(status: int, code: str, name: str) -> Answer:
    return _xml(
        f"<Error><Code>{code}</Code><Message>{code}</Message><Key>{escape(name)}</Key></Error>",
        status,
    )


def _xml(text: str, status: int = 200) -> Answer:
    return Answer(status, b'<?xml version="1.0" encoding="UTF-8"?>\n' + text.encode())


class Connection(asyncio.Protocol):
    """Requests one after another on one connection."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._got = bytearray()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._got += data
        while (request := self._next()) is not None and self._transport is not None:
            answer = self._bucket.answer(request)
            self._transport.write(answer.bytes(head_only=request.method == "HEAD"))

    def _next(self) -> Request | None:
        """The next request, if all of it has come."""
        end = self._got.find(_HEAD_END)
        if end < 0:
            return None
        first, *lines = self._got[:end].decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        start = end + len(_HEAD_END)
        stop = start + int(headers.get("content-length", "0"))
        if len(self._got) < stop:
            return None
        body = bytes(self._got[start:stop])
        del self._got[:stop]
        method, target, _ = first.split(" ", 2)
        return Request(method, target, headers, body)


async def serve(port: int) -> None:
    """Serve a bucket on a port of 127.0.0.1 until the process ends."""
    bucket = Bucket()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(bucket), "127.0.0.1", port
    )
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
