"""Words that read and write memory."""

from .word import _LL, Word, _as, _call, _const, _get, _ptr, _put, _splat


def _widen(b, h):
    """i16 holding binary16 -> float32, exactly; a scalar or a vector."""
    f32, i32 = _as(h.type, _LL.f32), _as(h.type, _LL.i32)
    if _LL.isa != "generic":
        return b.fpext(b.bitcast(h, _as(h.type, _LL.half)), f32)
    bits = b.shl(b.and_(b.zext(h, i32), _const(i32, 0x7FFF)), _const(i32, 13))
    scaled = b.bitcast(b.fmul(b.bitcast(bits, f32), _const(f32, 2.0**112)), i32)
    special = b.or_(bits, _const(i32, 0x7F800000))
    value = b.select(b.icmp_unsigned(">=", bits, _const(i32, 0x7C00 << 13)), special, scaled)
    return b.bitcast(
        b.or_(value, b.shl(b.and_(b.zext(h, i32), _const(i32, 0x8000)), _const(i32, 16))), f32
    )


def _narrow(b, f):
    """float32 -> i16 holding the nearest binary16, ties to even."""
    i32, i16 = _as(f.type, _LL.i32), _as(f.type, _LL.i16)
    if _LL.isa != "generic":
        return b.bitcast(b.fptrunc(f, _as(f.type, _LL.half)), i16)
    u = b.and_(b.bitcast(f, i32), _const(i32, 0x7FFFFFFF))
    sign = b.lshr(b.xor(b.bitcast(f, i32), u), _const(i32, 16))
    odd = b.and_(b.lshr(u, _const(i32, 13)), _const(i32, 1))
    normal = b.lshr(b.add(b.add(u, _const(i32, 0xFFF - (112 << 23))), odd), _const(i32, 13))
    tiny = b.sub(
        b.bitcast(b.fadd(b.bitcast(u, f.type), _const(f.type, 0.5)), i32), _const(i32, 126 << 23)
    )
    special = b.select(
        b.icmp_unsigned(">", u, _const(i32, 255 << 23)), _const(i32, 0x7E00), _const(i32, 0x7C00)
    )
    value = b.select(b.icmp_unsigned("<", u, _const(i32, 113 << 23)), tiny, normal)
    value = b.select(b.icmp_unsigned(">=", u, _const(i32, 143 << 23)), special, value)
    return b.trunc(b.or_(value, sign), i16)


def _brain(b, h):
    """i16 holding bfloat16 -> float32."""
    i32 = _as(h.type, _LL.i32)
    return b.bitcast(b.shl(b.zext(h, i32), _const(i32, 16)), _as(h.type, _LL.f32))


# memory: peek and poke one value; load and store vectors, the plural a tile (as wide as the first argument)
peek = Word("p->p", lambda b, p: _get(b, p, _LL.i64))
peek_u8 = Word("p->p", lambda b, p: b.zext(_get(b, p, _LL.i8), _LL.i64))
peek_i32 = Word("p->i", lambda b, p: _get(b, p, _LL.i32))
peek_f32 = Word("p->f", lambda b, p: _get(b, p, _LL.f32))
peek_f64 = Word("p->d", lambda b, p: _get(b, p, _LL.f64))
peek_f16 = Word("p->f", lambda b, p: _widen(b, _get(b, p, _LL.i16)))
peek_bf16 = Word("p->f", lambda b, p: _brain(b, _get(b, p, _LL.i16)))
poke = Word("pp->v", _put)
poke_i32 = Word("pi->v", _put)
poke_f32 = Word("pf->v", _put)
poke_f64 = Word("pd->v", _put)
poke_f16 = Word("pf->v", lambda b, p, value: _put(b, p, _narrow(b, value)))
load = Word("p->F1", lambda b, p: _get(b, p, _LL.F))
load_f16 = Word("p->F1", lambda b, p: _widen(b, _get(b, p, _LL.H)))
load_bytes = Word("p->B", lambda b, p: _get(b, p, _LL.B))
loads_f32 = Word("Fa->F", lambda b, like, p: _get(b, p, _LL.F))
loads_f16 = Word("Fa->F", lambda b, like, p: _widen(b, _get(b, p, _LL.H)))
loads_bf16 = Word("Fa->F", lambda b, like, p: _brain(b, _get(b, p, _LL.H)))
spreads = Word(
    "Fa->F", lambda b, like, p: _splat(b, _get(b, p, _LL.f32))
)  # one value, in all lanes
stores = Word("aF->v", _put)
store = Word("pF->v", _put)
store_f16 = Word("pF->v", lambda b, p, v: _put(b, p, _narrow(b, v)))
loads_i32 = Word("Fa->I", lambda b, like, p: _get(b, p, _LL.I))
store_bytes = Word("pB->v", _put)


def _prefetch(b, p):
    read, near, data = (_const(_LL.i32, n) for n in (0, 3, 1))
    _call(b, "llvm.prefetch.p0", _LL.ir.VoidType(), _ptr(b, p, _LL.i8), read, near, data)


prefetch = Word("p->v", _prefetch)  # asks for 64 bytes that will be read soon
