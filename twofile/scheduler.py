"""Who may have a place in a model's passes, and who plays them."""

import atexit
import collections
import itertools
import threading
import time
import weakref

from .errors import Busy, ModelError
from .forks import RENEWED
from .passes import Passes
from .program.operands import WANTED_MAX
from .waiting import Shield, Waiter

RUNNING = weakref.WeakSet()


class Scheduler(Passes):
    """The jobs of an Engine: up to its places of them share each pass (Yu et al. 2022), the others
    wait. Who waits for something of his own plays the passes, for all; there is no thread for it.

    Attributes, beside those of Passes: mutex (held while any of them changes; not during a pass),
    driver (the thread that plays, or None), sleepers (Consumers that wait for it), gone ((Job,
    reason), which are to end), pump (a Pump, if there is one), turning (a turn is being played).
    """

    def __init__(self, engine):
        self.engine, self.recurrent = engine, engine.recurrent
        self.pages = self.table = self.driver = None
        self.last = [], 0
        self.active, self.waiting, self.parked = {}, collections.deque(), set()
        self.gone, self.sleepers, self.closed = collections.deque(), [], False
        self.pump, self.exiting, self.turning, self.closing = None, False, False, False
        self.ending = None
        self.mutex, self.turns = threading.RLock(), itertools.count()
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

    def join(self, job, admitted=False):
        """A Job waits for its place. Raises Busy if too many do, unless it was admitted before,
        as a part of something larger."""
        with self.mutex:
            self.check()
            self.sweep()
            if self.ending:
                return job.end(self.ending)
            most, free = self.engine.queue, WANTED_MAX - len(self.active)
            if len(self.waiting) - free >= most and not admitted:
                found = f"{len(self.waiting) - free} texts wait for a place"
                raise Busy(f"{found}, expected {most} at most; ask again later")
            job.turn = next(self.turns)
            self.waiting.append(job)

    def check(self):
        if self.closed and not self.exiting:
            raise closed_error(self.engine)

    def leave(self, job, reason=None):
        """A Job ends, now or once the pass that is on its way was played."""
        with self.mutex:
            if self.in_turn():
                self.gone.append((job, reason))
                return
            self.end(job, reason)
            self.wake()

    def end_all(self, reason):
        """End all that is being written or read, as it is, and whatever comes from now on."""
        with self.mutex:
            self.ending = reason
            for job in [*self.active.values(), *self.waiting, *self.parked]:
                self.gone.append((job, reason))
            if self.driver is None:
                self.sweep()
            self.wake()

    def in_turn(self):
        """Whether this is a signal's handler, in the middle of a pass that this thread plays."""
        return self.turning and self.driver == threading.get_ident()

    def end(self, job, reason=None):
        """End a Job, now or once the pass that is on its way was played."""
        if job.playing:
            job.ending = reason or "closed"
        elif not job.over or job.text:
            job.end(reason or "closed")
            self.remove(job)

    def sweep(self):
        """End those whose stream is gone, and those that are late."""
        while self.gone:
            self.end(*self.gone.popleft())
        for job in [*self.active.values(), *self.waiting, *self.parked]:
            if job.due is not None and job.late():
                self.end(job, "deadline")

    def until(self, consumer):
        """Return when a Consumer is ready(); plays passes until then, unless another does. In the
        main thread Ctrl-C waits until nothing is half done."""
        if not self.closed:
            self.ready()  # Ctrl-C need not wait until kernels are compiled
        with Shield() as shield:
            try:
                while not self.advance(consumer, shield):
                    shield.check()
            finally:
                with self.mutex:
                    if self.driver == threading.get_ident():
                        self.driver = None
                        self.wake()
                    self.hand_over()

    def advance(self, consumer, shield):
        """Play a pass, or wait for what another plays -> whether a Consumer is ready."""
        me = threading.get_ident()
        with self.mutex:
            if self.driver == me:
                self.driver = None
                self.wake()
            if consumer.ready():
                return True
            for job in consumer.jobs:
                self.resume(job)
            leads = self.driver is None
            if leads and self.closed:
                if not self.exiting or not threading.current_thread().daemon:
                    raise closed_error(self.engine)
                leads = False
            if not leads:
                self.sleep(consumer, shield)
                return False
            self.driver = me
        try:
            self.turn()
        except ModelError:
            if not consumer.ready():  # it was closed meanwhile
                raise
        return False

    def sleep(self, consumer, shield):
        waiter = Waiter(consumer, self.mutex)
        self.sleepers.append(waiter)
        try:
            with shield.down():
                waiter.condition.wait()
        finally:
            if waiter in self.sleepers:
                self.sleepers.remove(waiter)

    def wake(self):
        """Those who have something, and nobody else."""
        for waiter in self.sleepers:
            if waiter.ready():
                waiter.wake()

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
            atexit.unregister(close_all)
            atexit.register(close_all)  # it is called before what a Forward does then
            RUNNING.add(self)
        self.turning = True
        try:
            with self.mutex:
                for job in self.active.values():
                    job.playing = False  # unless a plan was cut short, it is
                self.sweep()
                self.admit()
                plan = self.plan()
            if plan:
                self.play(plan)
            else:
                time.sleep(0.0005)  # all who could go on wait for somebody else
        finally:
            self.turning = False
        if self.closing:
            self.close()

    def close(self):
        """End all jobs, and the threads; waits for the pass that is on its way. Called again, it
        does what an interruption left."""
        with self.mutex:
            if self.in_turn():
                self.closing = True
                return
            self.closed, self.closing = True, False
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
            try:
                if self.pages and self.pages.spill:
                    self.pages.spill.keep_all(self.pages)
            finally:
                forward, self.engine.forward = self.forward, None
                self.pages = self.table = None
                if forward:
                    forward.close()


def close_all():
    """At the end of the process: no thread is to play on. Daemons wait for ever, as they do for
    Python itself then."""
    for scheduler in list(RUNNING):
        scheduler.exiting = True
        scheduler.close()


def closed_error(engine):
    found = f"{engine.name}: the model was closed"
    return ModelError(f"{found}, expected an open one; make a new one")
