"""Merging by looking at every pair again."""


def naive_merge(prio, symbols):
    """Rescan for the best pair each time: the quadratic twin of the heap."""
    symbols = list(symbols)
    while True:
        pairs = [(prio[a + b], -i) for i, (a, b) in enumerate(zip(symbols, symbols[1:])) if a + b in prio]
        if not pairs:
            return symbols
        i = -max(pairs)[1]
        symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]
