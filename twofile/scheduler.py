"""Who may have a place in a model's passes, and who plays them."""

import atexit
import collections
import threading
import time
import weakref

from .errors import ModelError
from .forks import RENEWED
from .passes import Passes

RUNNING = weakref.WeakSet()


class Scheduler(Passes):
    """The jobs of an Engine: up to its places of them share each pass (Yu et al. 2022), the others
    wait. Who waits for something of his own plays the passes, for all; there is no thread for it.

    Attributes, beside those of Passes: mutex (held while any of them changes; not during a pass),
    driver (the thread that plays, or None), sleepers (Consumers that wait for it), gone (Jobs that
    are nobody's any more), pump (a Pump, if there is one).
    """

    def __init__(self, engine):
        self.engine, self.recurrent = engine, engine.recurrent
        self.pages = self.table = self.last = self.driver = None
        self.active, self.waiting, self.parked = {}, collections.deque(), set()
        self.gone, self.sleepers, self.closed = collections.deque(), [], False
        self.pump, self.exiting = None, False
        self.mutex = threading.RLock()
        RENEWED.add(self)

    def forked(self):
        """In a child: of a pass that another thread played here are only halves."""
        self.mutex, self.sleepers, self.pump = threading.RLock(), [], None
        cut, self.driver = self.driver is not None, None
        for job in [*self.active.values(), *self.waiting]:
            job.playing = False
            if not job.streams:  # who wanted it is not there
                job.end("forked")
                self.remove(job, mark=not cut)
            elif cut:
                self.spoil(job)

    def join(self, job):
        """A Job waits for its place. Raises ModelError if too many do."""
        with self.mutex:
            self.check()
            self.sweep()
            most = self.engine.queue
            if len(self.waiting) >= most:
                found = f"{len(self.waiting)} texts wait for a place"
                raise ModelError(f"{found}, expected {most} at most; ask again later")
            self.waiting.append(job)

    def check(self):
        if self.closed and not self.exiting:
            raise closed_error(self.engine)

    def leave(self, job, reason=None):
        """A Job ends, now or once the pass that is on its way was played."""
        with self.mutex:
            if job.playing and self.driver != threading.get_ident():
                job.ending = reason or "closed"
            elif not job.over or job.text:
                job.end(reason or "closed")
                self.remove(job)
            self.wake()

    def sweep(self):
        """End those whose stream is gone, and those that are late."""
        while self.gone:
            self.leave(self.gone.popleft())
        for job in [*self.active.values(), *self.waiting, *self.parked]:
            if job.due is not None and job.late():
                self.leave(job, "deadline")

    def until(self, consumer):
        """Return when a Consumer is ready(); plays passes until then, unless another does."""
        me = threading.get_ident()
        while True:
            with self.mutex:
                if consumer.ready():
                    return self.hand_over()
                leads = self.driver in (None, me)
                if leads and self.closed:
                    if not self.exiting or not threading.current_thread().daemon:
                        raise closed_error(self.engine)
                    leads = False
                if leads:
                    self.driver = me
                else:
                    self.sleep(consumer)
            if leads:
                try:
                    self.turn()
                except BaseException:
                    with self.mutex:
                        self.driver = None
                        self.wake()
                        self.hand_over()
                    raise
                with self.mutex:
                    self.driver = None
                    self.wake()

    def sleep(self, consumer):
        consumer.condition = threading.Condition(self.mutex)
        self.sleepers.append(consumer)
        try:
            consumer.condition.wait()
        finally:
            if consumer in self.sleepers:
                self.sleepers.remove(consumer)

    def wake(self):
        """Those who have something, and nobody else."""
        for consumer in self.sleepers:
            if consumer.ready():
                consumer.wake()

    def hand_over(self):
        """Somebody else who waits plays on, if nobody does."""
        if self.driver is None:
            other = next((one for one in self.sleepers if not one.ready()), None)
            if other:
                other.lead()

    def turn(self):
        """One pass, for all who have a part in it."""
        self.ready()
        if self not in RUNNING:
            if not RUNNING:
                atexit.register(close_all)  # before what a Forward does then
            RUNNING.add(self)
        with self.mutex:
            for job in self.active.values():
                job.playing = False  # unless Ctrl-C came in the middle of a plan, it is
            self.sweep()
            self.admit()
            plan = self.plan()
        if plan:
            self.play(plan)

    def close(self):
        """End all jobs, and the threads; waits for the pass that is on its way."""
        with self.mutex:
            if self.closed:
                return
            self.closed = True
            for job in [*self.active.values(), *self.waiting, *self.parked]:
                if job.playing:
                    job.ending = "closed"
                else:
                    job.end("closed")
                    self.remove(job)
            self.wake()
        while self.driver not in (None, threading.get_ident()):
            time.sleep(0.001)
        with self.mutex:
            if self.pages and self.pages.spill:
                self.pages.spill.keep_all(self.pages)
        if self.forward:
            self.forward.close()
            self.engine.forward = None


def close_all():
    """At the end of the process: no thread is to play on. Daemons wait for ever, as they do for
    Python itself then."""
    for scheduler in list(RUNNING):
        scheduler.exiting = True
        scheduler.close()


def closed_error(engine):
    found = f"{engine.name}: the model was closed"
    return ModelError(f"{found}, expected an open one; make a new one")
