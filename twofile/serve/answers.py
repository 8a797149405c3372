"""Answers on their way: JSON, events, lines; and clients that go away."""

import asyncio
import json

from starlette.responses import Response


def as_json(value):
    """A value as JSON, in bytes; half a character becomes U+FFFD."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def answer(value, status=200, headers=None):
    """A JSON Response."""
    return Response(as_json(value), status, headers, "application/json")


PATIENCE = 60  # seconds that a client may take to read what is there, beside those of a text


class Gone(Exception):
    """The client has gone away."""


async def left(receive):
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(receive, work, seconds=None):
    """What a coroutine gives, which is cancelled if the client goes away, or after so many seconds:
    then raises Gone."""
    task, away = asyncio.ensure_future(work), asyncio.ensure_future(left(receive))
    try:
        await asyncio.wait({task, away}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Gone
    finally:
        for one in (task, away):
            one.cancel()
        await asyncio.gather(task, away, return_exceptions=True)


class Flow(Response):
    """Pieces of bytes, sent as they come. When the client goes away, or they all were sent, the
    generator is closed.

    pieces: an async generator. exchange: an Exchange, which is closed in the end. A client that
    does not read holds it up, and nothing else.
    """

    def __init__(self, pieces, media_type, exchange):
        self.pieces, self.exchange, self.media_type = pieces, exchange, media_type
        self.status_code, self.background, self.body = 200, None, None
        self.init_headers({"cache-control": "no-cache", "x-accel-buffering": "no"})

    async def __call__(self, scope, receive, send):
        async def all_of_them():
            async for piece in self.pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})

        try:
            start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
            await send(start)
            most = self.exchange.state.settings.timeout
            await unless_gone(receive, all_of_them(), most + PATIENCE if most else None)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await self.pieces.aclose()
            self.exchange.close()  # should it never have begun


def event(value, name=None):
    """A server-sent event."""
    head = b"" if name is None else b"event: " + name.encode() + b"\n"
    return head + b"data: " + (value if isinstance(value, bytes) else as_json(value)) + b"\n\n"


def line(value):
    """A line of JSON."""
    return as_json(value) + b"\n"


EVENTS, LINES = "text/event-stream", "application/x-ndjson"
