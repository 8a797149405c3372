"""Words for what threads do to each other."""

import os

from .word import _LL, Word, _call, _ptr


def _pause(b):
    if _LL.x86:
        _call(b, "llvm.x86.sse2.pause", _LL.ir.VoidType())


def _call_kernel(b, function, *args):
    """Numba's own convention: where to put the result, where to put an exception, the arguments; -> a status."""
    where = _LL.i64.as_pointer()
    kind = _LL.ir.FunctionType(_LL.i32, [where, where] + [_LL.i64] * 4)
    b.call(
        _ptr(b, function, kind),
        [_LL.cgutils.alloca_once(b, _LL.i64), _LL.ir.Constant(where, None), *args],
    )


# threads
atomic_add = Word(
    "pp->p", lambda b, p, n: b.atomic_rmw("add", _ptr(b, p, _LL.i64), n, "acq_rel")
)  # -> value before
atomic_load = Word("p->p", lambda b, p: b.load_atomic(_ptr(b, p, _LL.i64), "acquire", 8))
atomic_store = Word("pp->v", lambda b, p, n: b.store_atomic(n, _ptr(b, p, _LL.i64), "release", 8))
pause = Word("->v", _pause)  # tells the core that this is a waiting loop
yield_core = Word(
    "->v", lambda b: _call(b, "SwitchToThread" if os.name == "nt" else "sched_yield", _LL.i32)
)
call_kernel = Word("ppppp->v", _call_kernel)  # (address, record, pass, thread, threads)
