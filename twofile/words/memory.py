"""Words that read and write memory, and those between threads."""

import os
import sys

from .word import (
    LL,
    MachineWord,
    Word,
    call_llvm,
    constant,
    pointer_to,
    read_at,
    spread_lanes,
    with_element,
    write_at,
)


def _brain(b, h):
    """i16 holding bfloat16 -> float32."""
    i32 = with_element(h.type, LL.i32)
    bits = b.shl(b.zext(h, i32), constant(i32, 16))
    return b.bitcast(bits, with_element(h.type, LL.f32))


def _read_half(m, b, p, kind):
    return m.widen(b, read_at(b, p, kind))


def _write_half(m, b, p, value):
    write_at(b, p, m.narrow(b, value))


def _prefetch(b, p):
    read, near, data = (constant(LL.i32, n) for n in (0, 3, 1))
    call_llvm(b, "llvm.prefetch.p0", LL.void, pointer_to(b, p, LL.i8), read, near, data)


def _half_bytes(b, p, part, n):
    """Halves of 16 bytes -> float32."""
    kind = LL.ir.VectorType(LL.i8, 16)
    return b.uitofp(part(read_at(b, p, kind), constant(kind, n)), LL.F)


# peek and poke: one value; load and store: vectors; their plurals: a tile, as wide as the first
# argument
peek = Word("p->p", lambda b, p: read_at(b, p, LL.i64))
peek_u8 = Word("p->p", lambda b, p: b.zext(read_at(b, p, LL.i8), LL.i64))
peek_i32 = Word("p->i", lambda b, p: read_at(b, p, LL.i32))
peek_f32 = Word("p->f", lambda b, p: read_at(b, p, LL.f32))
peek_f64 = Word("p->d", lambda b, p: read_at(b, p, LL.f64))
peek_f16 = MachineWord("p->f", lambda m, b, p: _read_half(m, b, p, LL.i16))
peek_bf16 = Word("p->f", lambda b, p: _brain(b, read_at(b, p, LL.i16)))
poke = Word("pp->v", write_at)
poke_u8 = Word("pp->v", lambda b, p, n: write_at(b, p, b.trunc(n, LL.i8)))
poke_i32 = Word("pi->v", write_at)
poke_f32 = Word("pf->v", write_at)
poke_f64 = Word("pd->v", write_at)
poke_f16 = MachineWord("pf->v", _write_half)
load = Word("p->F1", lambda b, p: read_at(b, p, LL.F))
load_f16 = MachineWord("p->F1", lambda m, b, p: _read_half(m, b, p, LL.H))
load_u8 = Word("p->F1", lambda b, p: b.uitofp(read_at(b, p, LL.ir.VectorType(LL.i8, 16)), LL.F))
load_i8 = Word("p->F1", lambda b, p: b.sitofp(read_at(b, p, LL.ir.VectorType(LL.i8, 16)), LL.F))
load_low4 = Word("p->F1", lambda b, p: _half_bytes(b, p, b.and_, 15))
load_high4 = Word("p->F1", lambda b, p: _half_bytes(b, p, b.lshr, 4))
load_bytes = Word("p->B", lambda b, p: read_at(b, p, LL.B))
loads_f32 = Word("Fa->F", lambda b, like, p: read_at(b, p, LL.F))
loads_f16 = MachineWord("Fa->F", lambda m, b, like, p: _read_half(m, b, p, LL.H))
loads_bf16 = Word("Fa->F", lambda b, like, p: _brain(b, read_at(b, p, LL.H)))
loads_i32 = Word("Fa->I", lambda b, like, p: read_at(b, p, LL.I))
spreads = Word("Fa->F", lambda b, like, p: spread_lanes(b, read_at(b, p, LL.f32)))  # in all lanes
stores = Word("aF->v", write_at)
store = Word("pF->v", write_at)
store_f16 = MachineWord("pF->v", _write_half)
store_bytes = Word("pB->v", write_at)
prefetch = Word("p->v", _prefetch)  # asks for 64 bytes that will be read soon


def _call_kernel(b, function, *args):
    """Numba's own convention: where to put the result, where to put an exception, the arguments;
    -> a status."""
    where = LL.i64.as_pointer()
    kind = LL.ir.FunctionType(LL.i32, [where, where] + [LL.i64] * 4)
    result, exception = LL.cgutils.alloca_once(b, LL.i64), LL.ir.Constant(where, None)
    b.call(pointer_to(b, function, kind), [result, exception, *args])


def _call_c(b, function, first, *more):
    """As C passes whole numbers. On Linux as to a function of any number of them, which syscall is;
    to others they go the same way there."""
    any_number = sys.platform == "linux"
    kinds = [LL.i64] * (1 if any_number else 1 + len(more))
    kind = LL.ir.FunctionType(LL.i64, kinds, var_arg=any_number)
    return b.call(pointer_to(b, function, kind), [first, *more])


def _atomic_add(b, p, n):
    return b.atomic_rmw("add", pointer_to(b, p, LL.i64), n, "seq_cst")


def _yield_core(b):
    call_llvm(b, "SwitchToThread" if os.name == "nt" else "sched_yield", LL.i32)


# all threads see these in one order
atomic_add = Word("pp->p", _atomic_add)  # -> value before
atomic_load = Word("p->p", lambda b, p: b.load_atomic(pointer_to(b, p, LL.i64), "seq_cst", 8))
atomic_store = Word(
    "pp->v", lambda b, p, n: b.store_atomic(n, pointer_to(b, p, LL.i64), "seq_cst", 8)
)
pause = MachineWord("->v", lambda m, b: m.pause(b))  # tells the core that this is a waiting loop
yield_core = Word("->v", _yield_core)
call_kernel = Word("ppppp->v", _call_kernel)  # (address, record, pass, thread, threads)
call_c = Word("pppppp->p", _call_c)  # (address of a function of C, up to five int64)
