"""One request and the texts that are written for it."""

import asyncio
import random
import time

from ..options import line_seed, run_seed
from ..program.operands import WANTED_MAX
from ..writer import Writer
from .answers import Flow, answer, unless_gone
from .refusals import Refused, refusal

MOST, WITH_FORM = 4096, 128  # texts of a request; of such as have a form, of which each has its own
LONG = 4000  # characters, ids: what is prepared by a thread, so that others' tokens go on


class Exchange:
    """The use of a model by one request; close() ends it, whatever became of it.

    state: of the application. entry: the model's Entry. Attributes: model, writers (Writers, by
    number), began, tools (Tools, or None), number (of the answer, hex digits), beside (what
    stands beside an answer: the sources of a memory).
    """

    def __init__(self, state, entry):
        self.state, self.entry, self.began = state, entry, time.perf_counter()
        self.model, self.writers, self.streams, self.closed = None, [], [], False
        self.tools, self.number = None, f"{random.getrandbits(96):024x}"
        self.beside = {}
        entry.users += 1

    async def open(self):
        """-> the open Model"""
        self.model = await self.state.shelf.open(self.entry)
        return self.model

    async def ask(self, make, size=0):
        """What make() gives; by a thread if there is much to do. Raises Refused."""
        return await asyncio.to_thread(make) if size > LONG else make()

    async def write(self, prompts, n=1, seed=None, **options):
        """Make Writers: n of each of prompts (str or ids), one after the other."""
        seed, count = run_seed(seed), n * len(prompts)
        forms = {"schema", "regex", "grammar"} & options.keys()  # compiled, perhaps for seconds
        forms = forms or options.get("tools")
        most = WITH_FORM if forms else MOST
        if count > most:
            raise Refused(400, f"n: {count} texts, expected at most {most}; ask for fewer", "n")

        def make():
            for number in range(count):
                own = line_seed(seed, number) if number else seed
                w = Writer(self.model, prompts[number // n], seed=own, **options)
                self.check(w.n_prompt)
                self.writers.append(w)

        size = n * sum(len(prompt) + 100 for prompt in prompts)
        size += count * len(options.get("logit_bias", ()))
        await self.ask(make, LONG + 1 if forms else size)

    def check(self, n):
        """Raises Refused for a prompt of more tokens than a request may have."""
        most = self.state.settings.max_prompt
        if most and n > most:
            found = f"prompt: {n} tokens, expected at most {most}"
            raise Refused(400, f"{found}; shorten it", "prompt", "context_length_exceeded")

    def begin(self):
        """All that may be written at once wait for their places. Raises Busy."""
        self.streams = [self.model.awrite(w) for w in self.writers]
        for stream in self.streams[:WANTED_MAX]:
            stream.begin()

    async def whole(self):
        """Write all to their ends. Raises what ended one."""
        if not self.streams:
            self.begin()
        places = asyncio.Semaphore(WANTED_MAX)

        async def write(stream):
            async with places:
                stream.begin(admitted=True)
                await stream.end()

        await together(*map(write, self.streams))
        for w in self.writers:
            if w.error:
                raise w.error

    async def chunks(self):
        """Yield (number, Chunk) as they come."""
        if not self.streams:
            self.begin()
        if len(self.streams) == 1:
            async for chunk in self.streams[0]:
                yield 0, chunk
            return
        queue, places = asyncio.Queue(1), asyncio.Semaphore(WANTED_MAX)

        async def feed(number, stream):
            try:
                async with places:
                    stream.begin(admitted=True)
                    async for chunk in stream:
                        await queue.put((number, chunk, None))
                await queue.put((number, None, None))
            except Exception as e:
                await queue.put((number, None, e))

        tasks = [asyncio.ensure_future(feed(*pair)) for pair in enumerate(self.streams)]
        try:
            left = len(tasks)
            while left:
                number, chunk, error = await queue.get()
                if error:
                    raise error
                left -= chunk is None
                if chunk:
                    yield number, chunk
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def close(self):
        """Nobody wants more of it: places are free within a pass."""
        if self.closed:
            return
        self.closed = True
        for stream in self.streams:
            stream.stream.close()
        self.entry.left()
        if self.entry.idle == 0 and not self.entry.users:
            asyncio.ensure_future(self.state.shelf.close(self.entry))
        self.state.metrics.wrote(self.writers)

    async def __aenter__(self):
        try:
            await self.open()
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(self, *error):
        self.close()


async def together(*work):
    """Coroutines at once; the first error ends the others."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def reply(request, exchange, begun, whole, flow=None):
    """The Response to what begun, a coroutine, begins to write: what whole, a coroutine function,
    makes of it; or if flow is given, (pieces, failed, media type) of flow(), as they come. The
    exchange is closed, whatever becomes of it."""
    mine = True  # until a Flow has it
    try:
        await begun
        if flow:
            pieces, failed, kind = flow()
            mine = False
            return Flow(guarded(pieces, exchange, failed), kind, exchange)
        return answer(await unless_gone(request.receive, whole()))
    finally:
        if mine:
            exchange.close()


async def guarded(pieces, exchange, failed):
    """The pieces of an answer; what ends one in the middle is told by failed(Refused), and the
    exchange is closed."""
    try:
        async for piece in pieces:
            yield piece
    except Exception as e:
        exchange.state.log.failed(e)
        yield failed(refusal(e))
    finally:
        await pieces.aclose()
        exchange.close()
