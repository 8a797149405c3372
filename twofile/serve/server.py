"""The server around the application: how it begins, how it ends."""

import asyncio
import contextlib

import uvicorn

from ..errors import say
from .app import application


class Server(uvicorn.Server):
    """uvicorn's, which finishes what is being written at the end, or cuts it after grace seconds:
    then each text ends as it is, and its client is told so."""

    def __init__(self, config, shelf, grace, where):
        super().__init__(config)
        self.shelf, self.grace, self.where, self.signals = shelf, grace, where, 0

    async def startup(self, sockets=None):
        await super().startup(sockets)
        if not self.should_exit:
            say(self.where)

    def handle_exit(self, sig, frame):
        """A signal: no new requests. A second: texts end as they are. A third: everything does."""
        self.signals += 1
        self.should_exit = True
        if self.signals == 2:
            self.shelf.cancel_all()
        self.force_exit = self.signals > 2

    async def shutdown(self, sockets=None):
        async def cut():
            await asyncio.sleep(self.grace)
            self.shelf.cancel_all()

        cutting = asyncio.ensure_future(cut())
        try:
            await super().shutdown(sockets)
        finally:
            cutting.cancel()


def run(shelf, settings, sock):
    """Serve a Shelf on a socket until a signal comes -> exit code."""
    host, port = sock.getsockname()[:2]
    where = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    config = uvicorn.Config(
        application(shelf, settings),
        log_level="critical",
        access_log=False,
        server_header=False,
        lifespan="on",
        ws="none",
        proxy_headers=False,
        limit_concurrency=2000,
        timeout_graceful_shutdown=int(settings.grace) + 5,
    )
    server = Server(config, shelf, settings.grace, where)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[sock])
    return 0 if server.started else 1
