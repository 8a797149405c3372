"""Functions of the system that threads sleep and tell time by."""

import ctypes
import platform
import sys
import time

# The words that kernels are told: the way to sleep, four functions or numbers and two addresses for
# it; a clock, what it is asked for the time and for a thread's time on a processor (-1: it cannot
# tell), nanoseconds of its first number.
SYSTEM_WORDS = "way wait wake third fourth lock signal clock wall ran unit".split()
NO_WAY, FUTEX, ON_ADDRESS, CONDITION = range(4)
FUTEX_NUMBERS = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "loongarch64": 98}
ROOM = 256  # bytes, more than any system's mutex or condition


class System:
    """words: ints, as SYSTEM_WORDS names them. way: one of them, or None for this system's best."""

    def __init__(self, way=None):
        self.room = (ctypes.c_int64 * (2 * ROOM // 8))()  # lives as long as the addresses
        try:
            sleep = self.ways()[way]() if way else self.best()
        except (AttributeError, OSError):  # no such function
            sleep = (NO_WAY,)
        self.words = [*sleep, *[0] * (7 - len(sleep)), *self.clock()]

    def ways(self):
        return {FUTEX: self.futex, ON_ADDRESS: self.on_address, CONDITION: self.condition}

    def best(self):
        if sys.platform == "win32":
            return self.on_address()
        known = sys.platform == "linux" and sys.maxsize > 1 << 32
        return self.futex() if known and platform.machine() in FUTEX_NUMBERS else self.condition()

    def futex(self):
        return FUTEX, address_of(ctypes.CDLL(None).syscall), FUTEX_NUMBERS[platform.machine()]

    def on_address(self):
        library = ctypes.WinDLL("API-MS-Win-Core-Synch-l1-2-0")
        functions = library.WaitOnAddress, library.WakeByAddressAll
        return ON_ADDRESS, *map(address_of, functions)

    def condition(self):
        c = ctypes.CDLL(None)
        lock, signal = ctypes.addressof(self.room), ctypes.addressof(self.room) + ROOM
        if c.pthread_mutex_init(ctypes.c_void_p(lock), None):
            raise OSError("no mutex")
        if c.pthread_cond_init(ctypes.c_void_p(signal), None):
            raise OSError("no condition")
        functions = c.pthread_cond_wait, c.pthread_cond_broadcast
        functions += c.pthread_mutex_lock, c.pthread_mutex_unlock
        return CONDITION, *map(address_of, functions), lock, signal

    def clock(self):
        if sys.platform == "win32":
            kernel, ticks = ctypes.WinDLL("kernel32"), ctypes.c_int64(10**7)
            kernel.QueryPerformanceFrequency(ctypes.byref(ticks))
            return address_of(kernel.QueryPerformanceCounter), -1, -1, 10**9 // ticks.value
        ran = getattr(time, "CLOCK_THREAD_CPUTIME_ID", -1)
        return address_of(ctypes.CDLL(None).clock_gettime), time.CLOCK_MONOTONIC, ran, 10**9


def address_of(function):
    return ctypes.cast(function, ctypes.c_void_p).value
