"""Words for what threads do to each other."""

import os

from .emit import LL, call_llvm, pointer_to
from .word import MachineWord, Word


def _call_kernel(b, function, *args):
    """Numba's own convention: where to put the result, where to put an exception, the arguments;
    -> a status."""
    where = LL.i64.as_pointer()
    kind = LL.ir.FunctionType(LL.i32, [where, where] + [LL.i64] * 4)
    result, exception = LL.cgutils.alloca_once(b, LL.i64), LL.ir.Constant(where, None)
    b.call(pointer_to(b, function, kind), [result, exception, *args])


def _atomic_add(b, p, n):
    return b.atomic_rmw("add", pointer_to(b, p, LL.i64), n, "acq_rel")


def _yield_core(b):
    call_llvm(b, "SwitchToThread" if os.name == "nt" else "sched_yield", LL.i32)


atomic_add = Word("pp->p", _atomic_add)  # -> value before
atomic_load = Word("p->p", lambda b, p: b.load_atomic(pointer_to(b, p, LL.i64), "acquire", 8))
atomic_store = Word(
    "pp->v", lambda b, p, n: b.store_atomic(n, pointer_to(b, p, LL.i64), "release", 8)
)
pause = MachineWord("->v", lambda m, b: m.pause(b))  # tells the core that this is a waiting loop
yield_core = Word("->v", _yield_core)
call_kernel = Word("ppppp->v", _call_kernel)  # (address, record, pass, thread, threads)
