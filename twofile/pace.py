"""How many threads play a pass: fewer while they are held up."""

# nanoseconds
WINDOW = 16_000_000  # of which so much was lost; eight times that of a thread that plays alone
SOONEST, LATEST = 32_000_000, 2_000_000_000  # until the next trial: longer with each that fails
CALM = 1_000_000_000  # after so long a time what failed before is forgotten


class Pace:
    """use: how many threads shall play the next pass, of `most`. given_up, taken_back: how many
    times.

    Threads are held up when one of them is stopped while others wait for it, or when they have
    fewer cores than they are. If all together do hardly more than one would, one plays alone. It
    loses what it is stopped for; if that is so much that all did more, there are programs on all
    cores, and more threads get more of them: then all play.
    """

    def __init__(self, most):
        self.most = self.use = most
        self.trying = False
        self.slept, self.held, self.at, self.since = 0.0, 0.0, 0, 0
        self.pause, self.crowd = SOONEST, 2 * SOONEST  # before a trial, before giving up again
        self.next, self.worked = 0, 0.0  # as much as so many threads that nobody holds up
        self.given_up = self.taken_back = 0

    def after(self, at, took, slept, held, free):
        """After a pass that ended at that time and took so long, while threads slept for so long,
        all together, and were stopped for so long. free: whether the core of a thread that was
        tried is free; None: not known yet. -> the thread to try, or 0."""
        window = max(WINDOW if self.use > 1 else 8 * WINDOW, 2 * took)
        fade = max(0.0, 1 - (at - self.at) / window)
        self.slept, self.held = self.slept * fade + slept, self.held * fade + held
        self.at, share = at, self.held / window
        if self.use == self.most:
            if at >= self.next:
                self.judge(at, window)
        elif self.use > 1 and self.judge(at, window):
            pass
        elif self.use == 1 and share > 0.4 and 1 - share < 0.9 * self.worked:
            self.play_all(at)
        elif self.trying and free is not None:
            self.trying = False
            if free and share < 0.1:
                self.play_with(self.use + 1, at)
            else:
                self.later(at)
        elif not self.trying and at >= self.next and share < 0.1:
            self.trying = True
            return self.use
        return 0

    def judge(self, at, window):
        """Give up threads if that is better -> whether."""
        self.worked = self.use - (self.slept + self.held) / window
        if self.worked < 1.2:
            self.give_up(1, at)
        elif self.use > 2 and self.held / window > max(0.1, 0.8 / self.use):
            self.give_up(self.use - max(1, self.use // 4), at)
        else:
            return False
        return True

    def give_up(self, use, at):
        if self.use == self.most:
            self.given_up += 1
            if at - self.since > CALM:
                self.pause = SOONEST // 2
        self.later(at)
        self.play_with(use, at)

    def play_all(self, at):
        """Give up none again for a while."""
        self.crowd = 4 * SOONEST if at - self.since > CALM else min(2 * LATEST, 2 * self.crowd)
        self.next = at + self.crowd
        self.play_with(self.most, at)

    def play_with(self, use, at):
        self.taken_back += self.use < use == self.most
        self.use, self.since, self.slept, self.held, self.trying = use, at, 0.0, 0.0, False

    def later(self, at):
        """The next trial."""
        self.pause = min(LATEST, 2 * self.pause)
        self.next = at + self.pause
