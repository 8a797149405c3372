"""What is written, for asyncio."""

import collections
import threading
from typing import Any

from .chunk import Chunk
from .jobs import Embedding, Reading
from .streams import Call, Consumer, Stream
from .writer import Writer

LINGER = 1.0  # seconds without work after which a Pump's thread ends


class Pump:
    """A thread that plays passes for those who await something and must not play themselves; there
    while there is something to play."""

    def __init__(self, scheduler):
        self.scheduler, self.asked = scheduler, collections.deque()
        self.condition, self.running = threading.Condition(), False
        self.current = None  # the Awaited that it plays for

    def lead(self, awaited):
        """Play until that is ready. Called with the scheduler's mutex held."""
        with self.condition:
            if awaited not in self.asked:
                self.asked.append(awaited)
            self.condition.notify()
            if not self.running:
                threading.Thread(target=self.run, daemon=True).start()
                self.running = True
        for waiter in self.scheduler.sleepers:
            if waiter.ready == self.ready_now:
                waiter.wake()  # it sleeps while another played, who has left

    def ready_now(self):
        return self.current.ready()

    def run(self):
        while True:
            with self.condition:
                if not self.asked and not self.condition.wait_for(lambda: self.asked, LINGER):
                    self.running = False
                    return
                self.current = self.asked.popleft()
            try:
                self.scheduler.until(Own(self))
                self.current.wake()
            except Exception as e:  # it is raised where it is awaited
                self.current.fail(e)


class Own(Consumer):
    """A Pump as a Consumer: of what the one that it plays for waits for."""

    def __init__(self, pump):
        self.ready, self.jobs = pump.ready_now, pump.current.jobs


class Awaited(Consumer):
    """A Consumer that a task awaits."""

    def __init__(self, consumer, pump):
        import asyncio

        self.ready, self.jobs, self.pump = consumer.ready, consumer.jobs, pump
        self.loop = asyncio.get_running_loop()
        self.future, self.woken = self.loop.create_future(), False

    def wake(self):
        if not self.woken:
            self.woken = True
            self.tell(self.future.set_result, None)

    def fail(self, error):
        self.tell(self.future.set_exception, error)

    def lead(self):
        self.pump.lead(self)

    def tell(self, what, value):
        """Call from another thread, if anybody still waits."""
        try:
            self.loop.call_soon_threadsafe(lambda: self.future.done() or what(value))
        except RuntimeError:
            pass  # the loop was closed


async def until_ready(scheduler, consumer):
    """As Scheduler.until, for `await`: a Pump plays."""
    with scheduler.mutex:
        scheduler.pump = scheduler.pump or Pump(scheduler)
        waits = Awaited(consumer, scheduler.pump)
        if waits.ready():
            return
        for job in consumer.jobs:
            scheduler.resume(job)
        scheduler.sleepers.append(waits)
        if scheduler.driver is None:
            waits.lead()
    try:
        await waits.future
    finally:
        with scheduler.mutex:
            if waits in scheduler.sleepers:
                scheduler.sleepers.remove(waits)


async def aread(scheduler, ids, first, take, inside=False):
    """As read(), for `await`; a task that is cancelled gives its place back."""
    call = Call((Embedding if inside else Reading)(ids, first, take))
    scheduler.join(call.job)
    try:
        await until_ready(scheduler, call)
    except BaseException:
        scheduler.leave(call.job)
        raise
    call.check()


class AsyncStream:
    """As a Stream, for `async for`. Other tasks go on meanwhile; a task that is cancelled gives its
    place back."""

    def __init__(self, scheduler: Any, writer: Writer, lookup: bool = True) -> None:
        self.scheduler, self.stream = scheduler, Stream(scheduler, writer, lookup)

    def __aiter__(self) -> "AsyncStream":
        return self

    async def __anext__(self) -> Chunk:
        stream, over = self.stream, self.stream.job.over
        chunk = stream.take()
        if chunk is None and not over:
            try:
                stream.begin()
                await until_ready(self.scheduler, stream)
            except BaseException:
                stream.close()
                raise
            chunk = stream.take()
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    def begin(self, admitted: bool = False) -> None:
        """Ask for a place now, not when the first is awaited. Raises Busy, unless admitted."""
        self.stream.begin(admitted)

    async def end(self) -> None:
        """Wait until all is written; then it is in the Writer's chunks."""
        self.stream.whole()
        try:
            self.begin()
            await until_ready(self.scheduler, self.stream)
        except BaseException:
            self.stream.close()
            raise

    def cancel(self) -> None:
        """As Stream.cancel."""
        self.stream.cancel()

    async def aclose(self) -> None:
        """Nobody wants more of it."""
        self.stream.close()

    async def __aenter__(self) -> "AsyncStream":
        return self

    async def __aexit__(self, *error: object) -> None:
        self.stream.close()
