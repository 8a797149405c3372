"""Requests of all kinds from many threads at once, closed, cancelled, late, forked: each as if it were alone."""

import contextlib
import os
import random
import threading
import time
import traceback

from twofile.errors import ModelError
from twofile.writer import Writer


class Storm:
    """Requests about a Model, whose texts are told by another that writes them one by one.

    wrong: what was not as it should be. ended: how many there were of each kind.
    """

    def __init__(self, model, alone, seed, kinds=12, broken=None):
        self.model, self.alone, self.rng = model, alone, random.Random(seed)
        self.lock, self.wrong, self.ended = threading.Lock(), [], {}
        vocab, room = model.config.vocab_size - 1, model.n_ctx
        trunk = [self.rng.randrange(vocab) for _ in range(room)]
        self.prompts, self.known, self.broken = [], {}, broken
        while len(self.prompts) < kinds:
            ids = trunk[: self.rng.choice([0, 3, 64, 100, room // 2])]
            ids = ids + [self.rng.randrange(vocab) for _ in range(self.rng.randrange(1, 30))]
            ids, n, number = ids[: room - 40], self.rng.randrange(1, 40), len(self.prompts)
            with contextlib.suppress(ModelError):  # it wrote the token of which a number is none
                tokens = [c.token for c in alone.stream(ids, n, **self.how(number))]
                self.known[number] = tokens, alone.score(ids)[0].tolist()
                self.prompts.append((ids, n))

    def how(self, number):
        return dict(temperature=0.9, seed=number, ignore_eos=True)

    def run(self, requests, threads):
        """So many, by so many threads."""
        left = list(range(requests))
        together = [threading.Thread(target=self.work, args=(left, random.Random(self.rng.random()))) for _ in range(threads)]
        for thread in together:
            thread.start()
        for thread in together:
            thread.join()

    def work(self, left, rng):
        while left:
            with contextlib.suppress(IndexError):
                left.pop()
            kind = rng.choice(
                ["whole"] * 6 + ["closed", "lost", "cancelled", "late", "scored", "slow", "many", "bad", "forked"]
            )
            try:
                getattr(self, kind)(rng, rng.randrange(len(self.prompts)))
            except BaseException:  # a thread would only print it
                self.wrong.append((kind, traceback.format_exc()))
            with self.lock:
                self.ended[kind] = self.ended.get(kind, 0) + 1

    def same(self, number, got, whole=True):
        want = self.known[number][0]
        if got != (want if whole else want[: len(got)]):
            self.wrong.append((number, got))

    def stream(self, number):
        ids, n = self.prompts[number]
        return self.model.stream(ids, n, **self.how(number))

    def whole(self, rng, number):
        self.same(number, [c.token for c in self.stream(number)])

    def closed(self, rng, number):
        stream = self.stream(number)
        self.same(number, [c.token for c, _ in zip(stream, range(rng.randrange(20)))], False)
        stream.close()

    def lost(self, rng, number):
        stream = self.stream(number)
        self.same(number, [c.token for c, _ in zip(stream, range(rng.randrange(20)))], False)

    def cancelled(self, rng, number):
        stream = self.stream(number)
        timer = threading.Timer(rng.random() / 50, stream.cancel)
        timer.start()
        got = list(stream)
        timer.join()
        if got[-1].finish_reason == "cancelled":
            self.same(number, [c.token for c in got[:-1]], False)
        else:
            self.same(number, [c.token for c in got])

    def late(self, rng, number):
        ids, n = self.prompts[number]
        got = list(self.model.stream(ids, n, deadline=rng.random() / 50, **self.how(number)))
        self.same(number, [c.token for c in got if c.token is not None], False)
        if got[-1].finish_reason not in ("deadline", "length"):
            self.wrong.append(("late", got[-1]))

    def scored(self, rng, number):
        if self.model.score(self.prompts[number][0])[0].tolist() != self.known[number][1]:
            self.wrong.append(("scored", number))

    def slow(self, rng, number):
        got = []
        for chunk in self.stream(number):
            got.append(chunk.token)
            time.sleep(rng.random() / 500)
        self.same(number, got)

    def many(self, rng, number):
        numbers = [rng.randrange(len(self.prompts)) for _ in range(5)]
        writers = [Writer(self.model, *self.prompts[n], **self.how(n)) for n in numbers]
        for _ in self.model.together(iter(writers), 3):
            pass
        for n, w in zip(numbers, writers):
            self.same(n, [c.token for c in w.chunks])

    def bad(self, rng, number):
        """A text in which a number is none, if the model has such a token."""
        if self.broken is None:
            return
        try:
            list(self.model.stream([1, 2, self.broken], 5))
            self.wrong.append("no error")
        except ModelError as e:
            if "position" not in str(e):
                self.wrong.append(str(e))

    def forked(self, rng, number):
        if not hasattr(os, "fork") or rng.random() < 0.7:
            return
        with self.lock:  # a child has few of the parent's threads, and all of its memory
            pid = os.fork()
            if not pid:
                with contextlib.suppress(BaseException):
                    os._exit([c.token for c in self.stream(number)] != self.known[number][0])
                os._exit(2)
            end = time.monotonic() + 60
            while not (done := os.waitpid(pid, os.WNOHANG))[0]:
                if time.monotonic() > end:
                    os.kill(pid, 9)
                time.sleep(0.002)
            if done[1]:
                self.wrong.append(("forked", done[1]))


def settled(model):
    """Whether nothing of an idle Model is taken: every page is free, or in the tree and nobody's."""
    list(model.stream([1], 1))  # what was lost is taken away by the next pass
    scheduler, tree = model.scheduler, model.scheduler.pages
    nodes = list(tree.nodes())
    pages = sorted(tree.free + [node.page for node in nodes])
    idle = not (scheduler.active or scheduler.waiting or scheduler.parked or scheduler.sleepers or scheduler.driver)
    return idle and pages == list(range(tree.count)) and not any(node.users for node in nodes)
