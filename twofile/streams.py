"""Who takes what is written: one text, many, or what is read of one."""

from .jobs import Reading, Writing


class Consumer:
    """Who waits for something of its jobs. condition: what it waits on; see Scheduler.sleep."""

    condition = None

    def wake(self):
        """There is something."""
        self.condition.notify()

    def lead(self):
        """Nobody plays, and it waits: it is to play."""
        self.condition.notify()


class Stream(Consumer):
    """The Chunks of one text, as they are made: an iterator. It begins when the first is asked for.
    Closed, left in the middle of a loop, or lost, it gives its place back; cancel() may be called
    by any thread. What has states is not guessed for: it could not forget."""

    def __init__(self, scheduler, writer, lookup=True):
        self.scheduler, self.w, self.joined = scheduler, writer, False
        self.job = Writing(writer, lookup and not scheduler.recurrent)

    def ready(self):
        return len(self.w.chunks) > self.job.told or self.job.over

    def begin(self):
        """Ask for a place, if that was not done, or if it was given to others."""
        if not self.joined:
            self.joined = True
            self.scheduler.join(self.job)
        elif self.job in self.scheduler.parked:
            self.scheduler.resume(self.job)

    def take(self):
        """The next Chunk that is there already, or None. Raises what ended the text."""
        job, chunks = self.job, self.w.chunks
        if job.told == len(chunks):
            return None
        job.told += 1
        chunk = chunks[job.told - 1]
        if chunk.finish_reason == "error":
            raise self.w.error
        return chunk

    def __iter__(self):
        return self

    def __next__(self):
        chunk = self.take()
        if chunk is None and not self.job.over:
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

    def cancel(self):
        """End the text as it is: its last Chunk says "cancelled"."""
        self.scheduler.leave(self.job, "cancelled")

    def close(self):
        """Nobody wants more of it."""
        if not self.job.over:
            self.scheduler.leave(self.job)
        self.job.told = len(self.w.chunks)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def __del__(self):
        job = getattr(self, "job", None)
        if job and not job.over and self.joined:
            self.scheduler.gone.append(job)  # locks may be held where this happens


class Call(Consumer):
    """Somebody waits for a job's end."""

    def __init__(self, job):
        self.job = job

    def ready(self):
        return self.job.over


def read(scheduler, ids, first, take):
    """Read ids: take(at, rows) is given the logits after each, from the first-th on; see Reading.
    Raises what take raises."""
    job = Reading(ids, first, take)
    scheduler.join(job)
    try:
        scheduler.until(Call(job))
    except BaseException:
        scheduler.leave(job)
        raise
    if job.error:
        raise job.error


class Several(Consumer):
    """The Writers of one who writes many: jobs that have chunks nobody took."""

    def __init__(self, scheduler):
        self.scheduler, self.jobs = scheduler, []

    def begin(self, writer):
        self.scheduler.join(job := Writing(writer, not self.scheduler.recurrent))
        self.jobs.append(job)

    def ready(self):
        return any(len(job.w.chunks) > job.told for job in self.jobs)

    def take(self):
        """[(Writer, Chunk)] that are there."""
        found = []
        for job in list(self.jobs):
            found += [(job.w, chunk) for chunk in job.w.chunks[job.told :]]
            job.told = len(job.w.chunks)
            if job.w.reason:
                self.jobs.remove(job)
            elif job in self.scheduler.parked:
                self.scheduler.resume(job)
        return found

    def end(self):
        self.scheduler.gone.extend(self.jobs)  # locks may be held where a generator is lost


def write_together(scheduler, writers, places):
    """Yield (Writer, Chunk) as they come; see Model.together."""
    group, writers, more = Several(scheduler), iter(writers), True
    try:
        while group.jobs or more:
            while more and len(group.jobs) < places:
                coming = next(writers, 0)
                if not coming:
                    more = coming is None
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
