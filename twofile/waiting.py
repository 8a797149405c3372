"""Waiting: of threads for each other, of signals until nothing is half done."""

import contextlib
import signal
import threading


class Waiter:
    """A thread that sleeps until its Consumer has something, or it is to play."""

    def __init__(self, consumer, mutex):
        self.ready, self.condition = consumer.ready, threading.Condition(mutex)

    def wake(self):
        self.condition.notify()

    def lead(self):
        self.condition.notify()


class Shield:
    """While it is up, Ctrl-C and SIGTERM in the main thread are noted, and come when it is checked,
    or at the end; a second one comes at once."""

    def __enter__(self):
        self.noted, self.before = None, {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before = signal.getsignal(number)
                if callable(before):
                    self.before[number] = before
            self.put(dict.fromkeys(self.before, self.note))
        return self

    def put(self, handlers):
        for number, handler in handlers.items():
            signal.signal(number, handler)

    def note(self, number, frame):
        if self.noted:
            self.before[number](number, frame)
        self.noted = number

    def check(self):
        number, self.noted = self.noted, None
        if number:
            self.before[number](number, None)

    @contextlib.contextmanager
    def down(self):
        """A wait that may be long, in which signals come at once."""
        self.put(self.before)
        try:
            self.check()
            yield
        finally:
            self.put(dict.fromkeys(self.before, self.note))

    def __exit__(self, *error):
        self.put(self.before)
        self.check()
