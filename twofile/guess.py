"""Guesses of what comes, and the loop that tries them."""

import hashlib

from .program.operands import WANTED_MAX


def alike(a, b):
    """How many first entries two lists have in common."""
    n = min(len(a), len(b))
    return n if a[:n] == b[:n] else next(i for i in range(n) if a[i] != b[i])


def generate(step, prompt, stop, max_new, choose, guess=lambda ids: []):
    """Feed the ids of prompt, then yield ids until one of stop (not yielded) or max_new.

    step(ids, position, n) -> logits after each of the last n of ids, the first of which stands at
    position. guess(all ids so far) -> ids that may come next: they are fed along with the next
    token, and where they prove right their logits save a step. Since a step gives the same bits for
    many tokens as for one, guesses never change the text. Knows nothing of text, weights or the
    clock, so a test can drive it with three lines of fake model.
    """
    ids, end = list(prompt), len(prompt) + max_new
    rows, ahead = step(prompt, 0, 1), []
    while len(ids) < end:
        token = choose(rows[0])
        if token in stop:
            return
        ids.append(token)
        yield token
        rows = rows[1:] if ahead[:1] == [token] else []
        ahead = ahead[1:]
        if not len(rows) and len(ids) < end:  # the last token's logits would go unused
            ahead = guess(ids)[: min(WANTED_MAX, end - len(ids)) - 1]
            rows = step([token, *ahead], len(ids) - 1, 1 + len(ahead))


class Lookup:
    """Guesses by looking up what followed the last three tokens when they last stood in the text
    (prompt lookup decoding, Saxena 2023). It guesses further while it is right, and less and less
    often while it is wrong."""

    def __init__(self):
        self.after, self.known, self.last, self.at = {}, 3, [], 0
        self.length, self.pause, self.penalty = 3, 0, 1

    def __call__(self, ids):
        came = ids[self.at : self.at + len(self.last)]
        if self.last and came[0] != self.last[0]:
            self.length, self.pause, self.penalty = 3, self.penalty, min(64, 2 * self.penalty)
        elif self.last:
            self.length, self.penalty = min(15, 2 * self.length + 1) if came == self.last else 3, 1
        for n in range(self.known, len(ids)):
            self.after[tuple(ids[n - 3 : n])] = n
        self.known, self.last, self.at = max(3, len(ids)), [], len(ids)
        found = self.after.get(tuple(ids[-3:]))
        if found and self.pause:
            self.pause -= 1
        elif found:
            self.last = ids[found : found + self.length]
        return self.last


def line_seed(seed, name):
    """The seed of one text of many."""
    text = f"{seed}/{name}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "little")
