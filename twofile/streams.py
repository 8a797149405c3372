"""Who takes what is written: one text, many, or what is read of one."""

import math
import time
from typing import Any

from .chunk import Chunk
from .jobs import Embedding, Reading, Writing
from .options import iterable_asked, places_asked, yes_or_no
from .writer import Writer


class Consumer:
    """Who waits for something of its jobs: ready() says whether it is there."""

    jobs = ()


class Stream(Consumer):
    """The Chunks of one text, as they are made: an iterator. It begins when the first is asked for.
    Closed, left in the middle of a loop, or lost, it gives its place back; cancel() may be called
    by any thread. What has states is not guessed for: it could not forget."""

    def __init__(self, scheduler: Any, writer: Writer, lookup: bool = True) -> None:
        scheduler.check()
        self.scheduler, self.w, self.joined = scheduler, writer, False
        self.job = Writing(writer, yes_or_no("lookup", lookup, True) and not scheduler.recurrent)
        self.jobs = (self.job,)

    def ready(self) -> bool:
        return len(self.w.chunks) > self.job.told or self.job.over

    def begin(self, admitted: bool = False) -> None:
        """Ask for a place, if that was not done. admitted: see Scheduler.join."""
        if not self.joined:
            self.joined = True
            self.scheduler.join(self.job, admitted)

    def whole(self) -> None:
        """No chunk is waited for, but the end."""
        self.job.told = math.inf

    def take(self) -> Chunk | None:
        """The next Chunk that is there already, or None. Raises what ended the text."""
        job, chunks = self.job, self.w.chunks
        with self.scheduler.mutex:
            if job.told >= len(chunks):
                return None
            job.told += 1
            chunk = chunks[job.told - 1]
        if chunk.finish_reason == "error":
            raise self.w.error
        return chunk

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> Chunk:
        over = self.job.over  # looked at first: the last chunk comes before
        chunk = self.take()
        if chunk is None and not over:
            try:
                self.begin()
                self.scheduler.until(self)
            except BaseException:
                self.close()
                raise
            chunk = self.take()
        if chunk is None:
            raise StopIteration
        return chunk

    def cancel(self) -> None:
        """End the text as it is: its last Chunk says "cancelled"."""
        self.scheduler.leave(self.job, "cancelled")

    def close(self) -> None:
        """Nobody wants more of it."""
        if not self.job.over:
            self.scheduler.leave(self.job)
        self.job.told = len(self.w.chunks)

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self):
        job = getattr(self, "job", None)
        if job and not job.over and self.joined:
            self.scheduler.gone.append((job, None))  # locks may be held where this happens


class Call(Consumer):
    """Somebody waits for a job's end."""

    def __init__(self, job):
        self.job, self.jobs = job, (job,)

    def ready(self):
        return self.job.over

    def check(self):
        """Raises what ended it before its end."""
        if self.job.error:
            raise self.job.error


def read(scheduler, ids, first, take, inside=False):
    """Read ids: take(at, rows) is given the logits after each, from the first-th on; see Reading.
    inside: what the last layer makes of each instead; see Embedding. Raises what take raises."""
    call = Call((Embedding if inside else Reading)(ids, first, take))
    scheduler.join(call.job)
    try:
        scheduler.until(call)
    except BaseException:
        scheduler.leave(call.job)
        raise
    call.check()


class Several(Consumer):
    """The Writers of one who writes many: jobs that have chunks nobody took."""

    def __init__(self, scheduler):
        self.scheduler, self.jobs = scheduler, []

    def begin(self, writer):
        self.jobs.append(job := Writing(writer, not self.scheduler.recurrent))
        self.scheduler.join(job)

    def ready(self):
        return any(len(job.w.chunks) > job.told for job in self.jobs)

    def take(self):
        """[(Writer, Chunk)] that are there."""
        found = []
        for job in list(self.jobs):
            new = job.w.chunks[job.told :]
            found += [(job.w, chunk) for chunk in new]
            job.told += len(new)
            if new and new[-1].finish_reason:
                self.jobs.remove(job)
        return found

    def end(self):
        self.scheduler.gone.extend(
            (job, None) for job in self.jobs
        )  # locks may be held where a generator is lost


def write_together(scheduler, writers, places):
    """-> an iterator of (Writer, Chunk) as they come; see Model.together."""
    scheduler.check()
    return written_together(scheduler, iterable_asked("writers", writers), places_asked(places))


def written_together(scheduler, writers, places):
    """Yield (Writer, Chunk) as they come. writers: an iterator."""
    group, more = Several(scheduler), True
    try:
        while group.jobs or more:
            while more and len(group.jobs) < places:
                coming = next(writers, False)
                if coming is None or coming is False:
                    more = coming is None
                    if more and not group.jobs:
                        time.sleep(0.001)
                    break
                group.begin(coming)
            if group.jobs:
                scheduler.until(group)
                yield from group.take()
    finally:
        group.end()


def best_first(writers, judge):
    """Finished Writers, weighed, the best first; equals stay in their order."""
    for w in writers:
        w.weigh(judge)
    return sorted(writers, key=lambda w: -w.worth)
