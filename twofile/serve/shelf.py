"""The models that are served: opened when asked for, closed when not."""

import asyncio
import logging
import math
import os
import time

from ..errors import ModelError, printable
from ..model import Model
from ..modelfile import about, open_model
from ..tokenizer.tokenizer import find_tokenizer
from .refusals import Refused

LOG = logging.getLogger("twofile.serve")


class Entry:
    """A model by name. model: None while it is not open. users: requests that are being answered.
    Raises ModelError for a file that is none."""

    def __init__(self, name, path, settings):
        self.name, self.path, self.settings = name, path, settings
        file = open_model(path)
        self.about = about(file, file.config.max_ctx, 0, find_tokenizer(file))
        self.created, self.size = int(os.stat(path).st_mtime), file.size
        self.idle = None  # seconds after which it is closed, if a client has said so
        self.model, self.users, self.lock = None, 0, asyncio.Lock()
        self.used = time.monotonic()

    @property
    def chats(self):
        """Whether it has a chat template."""
        return self.about["chat"] is not None

    @property
    def tells(self):
        """Whether that has a system message."""
        return self.chats and "system" in self.about["chat"]

    def left(self):
        """A request ends."""
        self.users -= 1
        self.used = time.monotonic()

    def context(self):
        """Most tokens of a text."""
        return self.model.n_ctx if self.model else self.settings["n_ctx"] or self.about["max_ctx"]


class Shelf:
    """Entries by name, the first of which answers who names none.

    idle: seconds without a request after which a model is closed; 0 = never.
    """

    def __init__(self, entries, idle):
        self.entries, self.idle = {entry.name: entry for entry in entries}, idle
        self.first = entries[0]

    def find(self, name):
        """The Entry of that name. Raises Refused."""
        if name in (None, ""):
            return self.first
        entry = self.entries.get(name) or self.entries.get(name.removesuffix(":latest"))
        if entry is None:
            have = ", ".join(self.entries)
            found = f"model is {printable(name[:80])!r}"
            raise Refused(
                404, f"{found}, expected one of: {have}; name one", "model", "model_not_found"
            )
        return entry

    async def open(self, entry):
        async with entry.lock:
            if entry.model is None:
                try:
                    entry.model = await asyncio.to_thread(opened, entry)
                except ModelError as e:
                    LOG.error("%s", e)  # it names a path, which is nobody's to know
                    found = f"model {entry.name}: it cannot be opened now"
                    wants = "expected its file; ask again later, or another"
                    raise Refused(503, f"{found}, {wants}", "model", "model_unavailable", 60) from e
        return entry.model

    async def close(self, entry):
        """Close it, unless somebody uses it."""
        async with entry.lock:
            model, entry.model = entry.model, None if entry.users == 0 else entry.model
            if entry.model is None and model is not None:
                await asyncio.to_thread(model.close)

    async def close_all(self):
        for entry in self.entries.values():
            async with entry.lock:
                model, entry.model = entry.model, None
                if model is not None:
                    await asyncio.to_thread(model.close)

    async def watch(self):
        """Close what nobody used for a while; for ever."""
        while True:
            await asyncio.sleep(min(max(self.idle / 4, 0.1), 2) if self.idle else 2)
            for entry in self.entries.values():
                most = self.idle or math.inf if entry.idle is None else entry.idle
                if entry.model and time.monotonic() - entry.used > most:
                    try:
                        await self.close(entry)
                    except Exception as e:  # others are still to be closed
                        LOG.error("model %s: %s while it was closed", entry.name, type(e).__name__)

    def cancel_all(self):
        """End every text that is being written, as it is, and those to come."""
        for entry in self.entries.values():
            if entry.model:
                entry.model.scheduler.end_all("closed")


def opened(entry):
    """The Model of an Entry, ready to run."""
    model = Model(entry.path, **entry.settings)
    model.ready()
    entry.about = model.info  # the file may be another than at the start
    return model
