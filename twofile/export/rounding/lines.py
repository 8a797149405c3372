"""Numbers of few bits, packed as the kernels of matmul read them."""

from ...compiler.kernel import inline
from .words import joined_bits, left, load_words, masked, right, store_words


def lines_of(bits):
    """-> what packs a group: 8 words of 4 numbers for each row, as pack.words has them."""

    def nibbles(numbers, out):
        for k in range(4):
            low = masked(load_words(numbers + 128 * k), 0x0F0F0F0F)
            high = masked(load_words(numbers + 128 * k + 64), 0x0F0F0F0F)
            store_words(out + 64 * k, joined_bits(low, left(high, 4)))

    nibbles = inline(nibbles)

    def twos(numbers, out, down):
        for k in range(2):
            line = masked(right(load_words(numbers + 256 * k), down), 0x03030303)
            for j in range(1, 4):
                more = right(load_words(numbers + 256 * k + 64 * j), down)
                line = joined_bits(line, left(masked(more, 0x03030303), 2 * j))
            store_words(out + 64 * k, line)

    twos = inline(twos)

    def ones(numbers, out, down):
        line = masked(right(load_words(numbers), down), 0x01010101)
        for j in range(1, 8):
            more = masked(right(load_words(numbers + 64 * j), down), 0x01010101)
            line = joined_bits(line, left(more, j))
        store_words(out, line)

    ones = inline(ones)

    def lines(numbers, out):
        if bits >= 4:
            nibbles(numbers, out)
        if bits == 5:
            ones(numbers, out + 256, 4)
        if bits == 6:
            twos(numbers, out + 256, 4)
        if bits < 4:
            twos(numbers, out, 0)
        if bits == 3:
            ones(numbers, out + 128, 2)

    return inline(lines)
