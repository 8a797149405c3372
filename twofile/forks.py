"""A process that forks: its child has one thread, and locks nobody frees."""

import os
import threading
import weakref

RENEWED = weakref.WeakSet()  # what has threads or locks: in a child, its forked() is called
BUILDING = threading.RLock()  # held while machine code is made: a fork waits until it is there


def _in_child():
    for thing in list(RENEWED):
        thing.forked()
    BUILDING.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=BUILDING.acquire, after_in_parent=BUILDING.release, after_in_child=_in_child
    )
