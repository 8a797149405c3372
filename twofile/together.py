"""Many texts written at once, the weights read once for all."""

from .program.operands import CHUNK, KEYS


def write_together(engine, writers, places):
    """Yield (Writer, Chunk) as they come; see Model.together."""
    forward, writers, more, coming = engine.borrow(places), iter(writers), True, None
    slots = Slots(engine, forward)
    try:
        while slots.active or more:
            while more and len(slots.active) < places:
                coming = coming or next(writers, 0)
                if not coming:
                    more, coming = coming is None, None
                    break
                if slots.being_read(coming):
                    break
                slots.take(coming)
                coming = None
            if slots.active:
                yield from slots.play()
    finally:
        engine.give_back(forward)


class Slots:
    """The places of a Forward: which Writer is in each (active, {slot: Writer}), and which ids its
    cache holds (fed)."""

    def __init__(self, engine, forward):
        self.engine, self.forward = engine, forward
        self.active, self.fed = {}, [[] for _ in range(forward.n_slots)]

    def common(self, w):
        """How many of the ids of each slot's cache a Writer can use."""
        return [self.engine.of_use(ids, w.ids[:-1]) for ids in self.fed]

    def end(self, w):
        """How much of a text is read before it is of use to others; states, before the last token
        of its prompt."""
        return w.n_prompt - self.engine.recurrent

    def being_read(self, coming):
        """Whether a beginning of a Writer's text is being read for another: it had better wait."""
        most = max(self.common(coming)) + KEYS
        reading = [w for slot, w in self.active.items() if len(self.fed[slot]) < self.end(w)]
        return any(
            self.engine.of_use(w.ids[: self.end(w)], coming.ids[:-1]) > most for w in reading
        )

    def take(self, w):
        """Give a Writer the free slot that holds most of its text, and what another holds of it."""
        known, places = self.common(w), range(len(self.fed))
        slot = max(set(places) - self.active.keys(), key=known.__getitem__)
        source = max(places, key=known.__getitem__)
        if known[source] > known[slot]:
            self.forward.copy(source, slot, known[source])
        self.fed[slot], self.active[slot] = w.ids[: known[source]], w

    def play(self):
        """One pass over the active Writers. -> [(Writer, Chunk)]"""
        tokens, positions, slots, ready, out = [], [], [], {}, []
        behind = lambda item: len(item[1].ids) - len(self.fed[item[0]])
        for slot, w in sorted(self.active.items(), key=behind):  # those who write first
            at = len(self.fed[slot])
            end = self.end(w) if at < self.end(w) else len(w.ids)
            part = w.ids[at : min(end, at + CHUNK - len(tokens))]
            tokens += part
            positions += range(at, at + len(part))
            slots += [slot] * len(part)
            self.fed[slot] += part
            if part and len(self.fed[slot]) == len(w.ids):
                ready[slot] = len(tokens) - 1
        logits = self.engine.play(self.forward, tokens, positions, slots, list(ready.values()))
        for slot, row in zip(ready, logits):
            w = self.active[slot]
            out.append((w, w.push(w.choose(row) if w.limit else None)))
            if w.reason is None and w.count == w.limit:
                out.append((w, w.push(None)))
            if w.reason:
                del self.active[slot]
        return out


def best_first(writers, judge):
    """Finished Writers, weighed, the best first; equals stay in their order."""
    for w in writers:
        w.weigh(judge)
    return sorted(writers, key=lambda w: -w.worth)
