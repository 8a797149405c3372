"""A process that forks: its child has one thread, and locks nobody frees."""

import os
import threading
import weakref

RENEWED = weakref.WeakSet()  # what has threads or a mutex: in a child, its forked() is called
BUILDING = threading.RLock()  # held while machine code is made: a fork waits until it is there


HELD = []  # locks that are held during a fork, so that nothing is half done in the child


def renewed():
    """What is in RENEWED, though other threads may add to it meanwhile."""
    while True:
        try:
            return list(RENEWED)
        except RuntimeError:
            pass  # it grew


def _before_fork():
    BUILDING.acquire()
    HELD.extend(thing.mutex for thing in renewed() if hasattr(thing, "mutex"))
    for mutex in HELD:
        mutex.acquire()


def _in_parent():
    while HELD:
        HELD.pop().release()
    BUILDING.release()


def _in_child():
    HELD.clear()  # those who held them are not there
    for thing in renewed():
        thing.forked()
    BUILDING.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
