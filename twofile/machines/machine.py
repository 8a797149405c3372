"""Machine: how a processor says a word; here the plain way, for any."""

from ..words.word import LL, constant, read_at, spread_lanes, with_element


class Machine:
    """An instruction set. Its methods write a word's instructions with an LLVM builder b, which
    gives values of LLVM. Others say in another way what they can do better.

    name: as a report of speed tells it. needs: features, by LLVM's names, that a processor must
    have. tiles: whether it has the words of Intel's matrix unit (machines/x86.py). pairwise:
    whether it sums products of few bits in int16, which only some of them fit.
    """

    name = "generic"
    needs = frozenset()
    tiles = False
    pairwise = False

    def __eq__(self, other):
        return type(self) is type(other)

    def __hash__(self):
        return hash(type(self))

    def usable(self):
        """Whether this process may use what needs does not tell of."""
        return True

    @property
    def sums_few(self):
        """LLVM's type of partial sums of weights of few bits."""
        return LL.I

    def widen(self, b, h):
        """i16 holding binary16 -> float32, exactly; a scalar or a vector."""
        f32, i32 = with_element(h.type, LL.f32), with_element(h.type, LL.i32)
        bits = b.shl(b.and_(b.zext(h, i32), constant(i32, 0x7FFF)), constant(i32, 13))
        scaled = b.bitcast(b.fmul(b.bitcast(bits, f32), constant(f32, 2.0**112)), i32)
        special = b.or_(bits, constant(i32, 0x7F800000))
        large = b.icmp_unsigned(">=", bits, constant(i32, 0x7C00 << 13))
        value = b.select(large, special, scaled)
        sign = b.shl(b.and_(b.zext(h, i32), constant(i32, 0x8000)), constant(i32, 16))
        return b.bitcast(b.or_(value, sign), f32)

    def narrow(self, b, f):
        """float32 -> i16 holding the nearest binary16, ties to even; a scalar or a vector."""
        i32, i16 = with_element(f.type, LL.i32), with_element(f.type, LL.i16)
        u = b.and_(b.bitcast(f, i32), constant(i32, 0x7FFFFFFF))
        sign = b.lshr(b.xor(b.bitcast(f, i32), u), constant(i32, 16))
        odd = b.and_(b.lshr(u, constant(i32, 13)), constant(i32, 1))
        normal = b.add(b.add(u, constant(i32, 0xFFF - (112 << 23))), odd)
        normal = b.lshr(normal, constant(i32, 13))
        tiny = b.bitcast(b.fadd(b.bitcast(u, f.type), constant(f.type, 0.5)), i32)
        tiny = b.sub(tiny, constant(i32, 126 << 23))
        nan = b.icmp_unsigned(">", u, constant(i32, 255 << 23))
        special = b.select(nan, constant(i32, 0x7E00), constant(i32, 0x7C00))
        value = b.select(b.icmp_unsigned("<", u, constant(i32, 113 << 23)), tiny, normal)
        value = b.select(b.icmp_unsigned(">=", u, constant(i32, 143 << 23)), special, value)
        return b.trunc(b.or_(value, sign), i16)

    def start(self, b, p):
        """Sums before the first dot, which takes weights for 128 more than they are; at p is the
        group's sum of activations (int32)."""
        return self.times_sum(b, p, constant(LL.i64, -128))

    def dot(self, b, acc, w, p):
        """acc + 16 rows of 4 weights, 128 more than they are, times the 4 int8 activations at p."""
        return self.dot_bytes(b, acc, w, self.four(b, p))

    def dot7(self, b, acc, v, p):
        """acc + 16 columns of 4 int8 times the 4 bytes at p, which are 0..127."""
        return self.dot_bytes(b, acc, self.four(b, p), v)

    def dot_few(self, b, acc, w, p):
        """As dot, for weights of few bits as they are, into the machine's sums_few."""
        return self.dot_bytes(b, acc, w, self.four(b, p))

    def whole(self, b, few):
        """sums_few as int32."""
        return few

    def lookup(self, b, v, table):
        """Bytes 0..15 become those of a table."""
        out = constant(LL.B, table[0])
        for i, value in enumerate(table[1:], 1):
            here = b.icmp_unsigned("==", v, constant(LL.B, i))
            out = b.select(here, constant(LL.B, value), out)
        return out

    def dot_bytes(self, b, acc, w, x):
        """acc + the products of unsigned bytes w and int8 x, four in a lane."""
        w, x = b.bitcast(w, LL.I), b.bitcast(x, LL.I)
        for j in (0, 8, 16, 24):
            weight = b.and_(b.lshr(w, constant(LL.I, j)), constant(LL.I, 255))
            activation = b.ashr(b.shl(x, constant(LL.I, 24 - j)), constant(LL.I, 24))
            acc = b.add(acc, b.mul(weight, activation))
        return acc

    def four(self, b, p):
        """The 4 bytes at p, in all 16 lanes."""
        return b.bitcast(spread_lanes(b, read_at(b, p, LL.i32)), LL.B)

    def times_sum(self, b, p, times):
        """The sum of activations at p times a number (int64), in all lanes."""
        return spread_lanes(b, b.mul(read_at(b, p, LL.i32), b.trunc(times, LL.i32)))

    def pause(self, b):
        """Tell the core that this is a waiting loop."""


class HalfFloats:
    """A processor that itself converts between binary16 and float32."""

    def widen(self, b, h):
        half = b.bitcast(h, with_element(h.type, LL.half))
        return b.fpext(half, with_element(h.type, LL.f32))

    def narrow(self, b, f):
        half = b.fptrunc(f, with_element(f.type, LL.half))
        return b.bitcast(half, with_element(f.type, LL.i16))
