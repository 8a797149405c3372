"""What is read and written in the next pass of a model."""

import itertools

from .forks import BUILDING
from .pages import NoPages, Pages, alike
from .program.operands import CHUNK, KEYS, WANTED_MAX

BESIDE = 64  # ids of a pass in which somebody writes: between two tokens of his, not more are read
GUESSES = 3  # of so many or fewer for each, none are worth reading
LOOK = 64  # those who wait of whom one is taken out of turn, if a beginning of the others' is read


class Passes:
    """The jobs of an Engine that have places, and what the cache has of them.

    Attributes: pages (None until they are needed), active ({slot: Job}), waiting (Jobs, a deque),
    parked (Jobs that nobody takes anything from), last (the ids of the text that was in a pass
    last, and how many were read), table (of the cache). mutex and check() are the Scheduler's.
    """

    def ready(self):
        """The Forward; made when it is first asked for. Raises ModelError for too little memory."""
        if self.pages is None:
            with BUILDING:
                self.check()
                if self.pages is None:
                    engine, cache = self.engine, (self.forward or self.engine.build()).cache
                    self.table, spill = cache.rows(), engine.spill_of(cache)
                    self.pages = Pages(cache.pages, cache.copy, engine.marks, spill)
        self.check()
        return self.forward

    @property
    def forward(self):
        """The Forward, None before ready() and after the end."""
        return self.engine.forward

    @property
    def fed(self):
        """The ids of the last text that was in a pass, as far as they have been read."""
        ids, n = self.last
        return ids[:n]

    # who has a place

    def admit(self):
        """Give free places to those who wait, in their order; who begins like one that is being
        read waits until he can have that."""
        places = self.forward.n_slots
        for job in [job for job in self.waiting if job.stalled()]:
            self.park(job)  # it lost its place to others, and nobody takes anything from it
        while self.waiting:
            if len(self.active) == places:
                idle = next((other for other in self.active.values() if other.stalled()), None)
                if idle is None:
                    return
                self.park(idle)
            some = itertools.islice(self.waiting, LOOK)
            job = next((job for job in some if not self.being_read(job)), None)
            if job is None:
                return
            job.text = self.pages.take(job.ids, min(job.first, len(job.ids) - 1))
            job.slot, job.tabled = min(set(range(places)) - self.active.keys()), 0
            job.begins(job.text.n)
            for part, before in zip(self.forward.state(job.slot), job.text.states):
                part[:] = before
            job.text.states = ()
            self.active[job.slot] = job
            self.waiting.remove(job)

    def being_read(self, job):
        """Whether more of its beginning is being read for another than is there already."""
        found = None
        for other in self.active.values():
            end = other.mark if self.recurrent else min(len(other.ids), other.mark + 1)
            if other.text.n >= end or other.stalled():
                continue
            n = alike(other.ids[:end], job.ids[: job.first])
            if self.recurrent and n < end:
                continue
            found = self.pages.find(job.ids, job.first).n if found is None else found
            if n > found + KEYS:
                return True
        return False

    def remove(self, job, mark=True):
        """Take a Job out; what was read of it stays as long as there is room."""
        if job.text is not None:
            if mark and self.recurrent:
                self.mark(job)
            del self.active[job.slot]
            job.text.leave()
            job.text = job.slot = None
        elif job in self.waiting:
            self.waiting.remove(job)
        self.parked.discard(job)

    def spoil(self, job):
        """Its states are not those of what was read: it begins again where they were kept."""
        if job.text is not None and self.recurrent:
            self.remove(job, mark=False)
            if not job.over:
                self.waiting.appendleft(job)

    def mark(self, job):
        job.text.mark([part.copy() for part in self.forward.state(job.slot)])

    def make_way(self, job):
        """Its pages are for another; it goes on later, with what is left of them."""
        if job.stalled():
            self.park(job)
        else:
            self.remove(job)
            self.waiting.appendleft(job)

    def park(self, job):
        """Nobody takes anything from it: its place is for others."""
        self.remove(job)
        self.parked.add(job)

    def resume(self, job):
        """Somebody takes something of it again."""
        if job in self.parked:
            self.parked.discard(job)
            self.waiting.appendleft(job)

    # a pass

    def plan(self):
        """[(Job, its ids, after how many of the last of these logits are wanted)] of a pass: first
        those that are written, an id or a few guesses each; then what is to be read, by turns of
        who came first."""
        jobs = [job for job in self.active.values() if not job.stalled()]
        jobs.sort(key=lambda job: (not job.alone(), job.turn))
        many = sum(job.alone() for job in jobs)
        tokens, rows = BESIDE if many else CHUNK, WANTED_MAX
        spare = (WANTED_MAX - len(jobs)) // max(1, many)
        plan = []
        for i, job in enumerate(jobs):
            if job.text is None:
                continue  # made room for another
            alone = job.alone()
            others = min(len(jobs) - 1 - i, rows - 1)  # a row is kept for each of them
            most = 1 + (spare if spare > GUESSES else 0) if alone else rows - others
            part, wanted = job.part(tokens, min(rows, most), self.stop(job))
            if not part or not self.room(job, len(part)):
                continue
            tokens, rows = tokens - len(part), rows - wanted
            job.playing = True
            plan.append((job, part, wanted))
            if not tokens or not rows:
                break
        return plan

    def stop(self, job):
        """Where there are states: the next position that they are kept at."""
        if not self.recurrent:
            return None
        step, n = KEYS * self.engine.mark_every, job.text.n
        return min(p for p in (job.mark, n // step * step + step) if p > n)

    def kept_here(self, job):
        return job.known == job.mark or job.known % (KEYS * self.engine.mark_every) == 0

    def room(self, job, n):
        """Have pages for n more ids of a Job; the youngest of the others that have no part in the
        pass yet give theirs. -> whether there are."""
        nodes, end = job.text.nodes, job.text.n + n
        while KEYS * len(nodes) < end:
            try:
                job.text.room(end)
            except NoPages:
                others = [o for o in self.active.values() if o is not job and not o.playing]
                if not others:
                    return False
                self.make_way(max(others, key=lambda other: other.turn))
        for block in range(job.tabled, len(nodes)):
            self.table[job.slot, block] = nodes[block].page
        job.tabled = len(nodes)
        return True

    def play(self, plan):
        """Play the pass, and give everyone his logits."""
        tokens, positions, slots, rows = [], [], [], []
        for job, part, wanted in plan:
            tokens += part
            positions += range(job.text.n, job.text.n + len(part))
            slots += [job.slot] * len(part)
            rows += range(len(tokens) - wanted, len(tokens))
        logits, sure = None, []
        try:
            logits = self.forward(tokens, positions, slots, rows)
        finally:
            with self.mutex:  # until all is settled: a fork meanwhile would find halves
                try:
                    if logits is not None:
                        self.give(plan, logits, sure)
                finally:
                    self.settle(plan, sure)

    def give(self, plan, logits, sure):
        """Everyone takes his logits, or his part of the stream; how many of his ids are certain is
        appended to sure."""
        if self.recurrent:
            logits = logits.copy()  # a pass is played again to see where a NaN began
        at = begin = 0
        for job, part, wanted in plan:
            end = begin + len(part)
            rows = self.forward.stream[begin:end] if job.inside else logits[at : at + wanted]
            sure.append(job.took(part, rows))
            at, begin = at + wanted, end

    def settle(self, plan, sure):
        """So many ids of each have been read; of all, unless the pass was cut short."""
        whole = len(sure) == len(plan) and not any(job.error for job, _, _ in plan)
        for (job, part, _), n in itertools.zip_longest(plan, sure, fillvalue=0):
            job.playing = False
            job.text.grow(part[:n])
            job.known, self.last = job.text.n, (job.ids, job.text.n)
            if not whole:
                self.spoil(job)
            elif self.recurrent and self.kept_here(job):
                self.mark(job)
            if job.ending:
                job.end(job.ending)
            if job.over:
                self.remove(job)
