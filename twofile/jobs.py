"""What wants passes of the model: a text to be written, one to be read."""

import time

from .errors import ModelError, WrongType, WrongValue, shown
from .guess import Lookup
from .program.operands import WANTED_MAX

UNREAD = 16  # chunks that are written before somebody takes them


def without_frames(error):
    """An error that keeps nothing alive of the thread that met it, which may be another's."""
    return error.with_traceback(None)


class Job:
    """ids: all that there are so far. Logits are wanted after each from the first-th on.

    Attributes: text (what the cache has of it; None while it waits for a place), slot, turn (when
    it came, among others), mark (how many positions it would be good to come back to, where there
    are states), playing (a pass is on its way), over, ending (why it is to end, once that pass is
    played), error.
    """

    due = None
    streams = False  # whether somebody takes it piece by piece
    inside = False  # whether it takes the stream behind the last layer instead of logits

    def __init__(self, ids):
        self.ids, self.text, self.slot, self.tabled, self.turn = ids, None, None, 0, 0
        self.known, self.playing, self.over, self.ending, self.error = 0, False, False, None, None

    def begins(self, n):
        """It has a place, and so many of its ids need not be read."""

    def left(self):
        """How many ids are still to be read."""
        return len(self.ids) - self.text.n

    def alone(self):
        """Whether its next pass is one of few ids, and of those that are written."""
        return self.left() == 1

    def cut(self, tokens, rows, stop):
        """-> (ids that are read next, after how many of the last of these logits are wanted); no
        more than these. stop: the position before which it must stop, or None."""
        n = self.text.n
        end = min(len(self.ids), n + tokens, stop or len(self.ids))
        first = max(n, self.first)
        end = min(end, first + rows)
        return self.ids[n:end], max(0, end - first)


class Writing(Job):
    """The text of a Writer. lookup: guess what repeats. told: how many of its chunks were taken.

    Guesses are read along with the last token; where they prove right their logits save a pass.
    Since a pass gives the same bits for many tokens as for one, they never change the text."""

    streams = True

    def __init__(self, writer, lookup=True):
        if not hasattr(writer, "n_prompt"):
            found = f"a text to write is {shown(writer)}"
            raise WrongType(f"{found}, expected a Writer of this model; give Writer(model, prompt)")
        if writer.begun or writer.reason:
            found = f"a Writer that {'has ended' if writer.reason else 'is being written'}"
            raise WrongValue(f"{found}, expected a new one: each is written once; make another")
        writer.begun = True
        super().__init__(writer.ids)
        self.w, self.told, self.mark, self.due = writer, 0, writer.n_prompt - 1, writer.due
        self.guess = Lookup() if lookup else None

    @property
    def first(self):
        return len(self.ids) - 1

    def alone(self):
        return self.left() == 1 or self.w.count > 0 and self.left() <= WANTED_MAX

    def begins(self, n):
        if self.w.cached is None:
            self.w.cached = n

    def stalled(self):
        return len(self.w.chunks) - self.told >= UNREAD

    def part(self, tokens, rows, stop):
        """As cut(), with guesses of what comes behind."""
        part, wanted = self.cut(tokens, rows, stop)
        w = self.w
        if wanted and w.count and self.guess:
            most = min(rows, tokens - len(part) + 1, w.limit - w.count, WANTED_MAX) - 1
            ahead = (w.forced or self.guess(self.ids))[:most] if most > 0 else []
            part, wanted = part + ahead, wanted + len(ahead)
        return part, wanted

    def took(self, part, rows):
        """Logits after the last of part -> how many of part stand in the text."""
        w, at, sure = self.w, self.text.n, len(part) - max(0, len(rows) - 1)
        for row in rows:
            if at + sure == len(self.ids):  # else what follows is there already
                try:
                    w.take(row)
                except Exception as e:
                    w.error = self.error = without_frames(e)
                    w.end("error")
            if w.reason or sure == len(part) or part[sure] != self.ids[at + sure]:
                break
            sure += 1
        self.over = w.reason is not None
        return sure

    def end(self, reason):
        """It ends here."""
        if not self.over:
            self.w.end(reason)
            self.over = True

    def late(self):
        return self.due is not None and time.perf_counter() > self.due


class Reading(Job):
    """take(at, rows) is given float32 [n, vocab_size]: what comes after each of ids[at : at + n],
    from the first-th on. What it raises ends the job."""

    def __init__(self, ids, first, take):
        super().__init__(ids)
        self.first, self.mark, self.take = first, first, take

    def stalled(self):
        return False

    def part(self, tokens, rows, stop):
        return self.cut(tokens, rows, stop)

    def took(self, part, rows):
        if len(rows):
            try:
                self.take(self.text.n + len(part) - len(rows), rows)
            except Exception as e:
                self.error = without_frames(e)
            self.first = self.text.n + len(part)  # should it lose its place
        self.over = self.error is not None or self.text.n + len(part) == len(self.ids)
        return len(part)

    def end(self, reason):
        if not self.over:
            found = f"reading was ended ({reason})"
            self.error = ModelError(f"{found}, expected an open model; read again")
            self.over = True

    def late(self):
        return False


class Embedding(Reading):
    """take(at, rows) is given float32 [n, dim], what the last layer makes of ids[at : at + n], from
    the first-th on."""

    inside = True

    def part(self, tokens, rows, stop):
        return self.cut(tokens, tokens, stop)[0], 0

    def took(self, part, rows):
        return super().took(part, rows[max(0, self.first - self.text.n) :])
