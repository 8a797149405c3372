"""The tree of pages: what texts find there is what stands there, and no page is lost."""

import random

import pytest

from twofile.pages import NoPages, Pages
from twofile.program.operands import KEYS


class Memory:
    """Pages whose content is told: of each position, all ids up to it."""

    def __init__(self, count, marks=0):
        self.pages = [[None] * KEYS for _ in range(count)]
        self.tree = Pages(count, self.copy, marks)

    def copy(self, source, page):
        self.pages[page][:] = self.pages[source]

    def read(self, text, ids, end):
        """What a pass writes: positions up to end, of which only some will be known for sure."""
        text.room(end)
        for n in range(text.n, end):
            self.pages[text.nodes[n // KEYS].page][n % KEYS] = tuple(ids[: n + 1])

    def check(self, text, ids):
        assert text.n <= len(ids) and text.ids()[: text.n] == ids[: text.n]
        for n in range(text.n):
            assert self.pages[text.nodes[n // KEYS].page][n % KEYS] == tuple(ids[: n + 1])

    def whole(self):
        """Nobody stands anywhere: every page is free or in the tree, once."""
        nodes = list(self.tree.nodes())
        assert sorted(self.tree.free + [node.page for node in nodes]) == list(range(self.tree.count))
        assert all(not node.users and 0 < len(node.ids) <= KEYS for node in nodes)
        assert all(node.parent is self.tree.root or len(node.parent.ids) == KEYS for node in nodes)


def beginnings(rng):
    """Texts that begin alike, at places of all kinds."""
    trunk = [rng.randrange(9) for _ in range(400)]
    cuts = 0, 1, 5, 63, 64, 65, 100, 128, 200, 256, 399
    return lambda: trunk[: rng.choice(cuts)] + [rng.randrange(9) for _ in range(rng.randrange(1, 90))]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("count, marks", [(40, 0), (200, 0), (40, 5)])
def test_texts_at_random(seed, count, marks):
    """Six at once begin, go on, guess wrong, leave; with little room and with much."""
    rng, memory = random.Random(seed), Memory(count, marks)
    new, going, found = beginnings(rng), [], 0
    for _ in range(1500):
        if len(going) < 6 and rng.random() < 0.3:
            ids = new()
            text = memory.tree.take(ids, len(ids) - 1)
            memory.check(text, ids)
            assert bool(text.states) == bool(marks and text.n)
            if marks and text.n:
                assert text.states == [tuple(ids[: text.n])]
            found += text.n
            going.append((text, ids))
        elif going:
            text, ids = rng.choice(going)
            end = min(len(ids) + rng.randrange(3), text.n + rng.randrange(1, 130))
            try:
                memory.read(text, ids + [7, 7, 7], end)
                text.grow(ids[text.n : end])
                memory.check(text, ids)
                if marks and rng.random() < 0.3:
                    text.mark([tuple(ids[: text.n])])
            except NoPages:
                pass
            if text.n == len(ids) and rng.random() < 0.5:
                ids += [rng.randrange(9) for _ in range(rng.randrange(40))]
            if rng.random() < 0.15 or end > 600:
                going.remove((text, ids))
                text.leave()
    for text, _ in going:
        text.leave()
    memory.whole()
    assert found > 1000 or marks
    assert len(memory.tree.idle) <= 4 * count + 1


def test_the_longest_beginning_is_found():
    memory = Memory(20)
    ids = list(range(200))
    texts = [ids[:150], ids[:100] + [3] * 60, ids[:64] + [5] * 10]
    for given in texts:
        text = memory.tree.take(given, len(given))
        memory.read(text, given, len(given))
        text.grow(given[text.n :])
        text.leave()
    for given, n in (
        (ids, 150),
        (texts[1], 160),
        (ids[:64] + [5] * 3 + [9], 67),
        (ids[:10] + [9], 10),
        ([9], 0),
        (ids[:64], 64),
    ):
        assert memory.tree.find(given, len(given)).n == n
        assert memory.tree.find(given, len(given) - 1).n == min(n, len(given) - 1)
    memory.whole()


def test_those_that_nobody_used_for_longest_go_first():
    memory = Memory(4)

    def use(*ids):
        text = memory.tree.take(list(ids), len(ids))
        memory.read(text, list(ids), len(ids))
        text.grow(list(ids)[text.n :])
        text.leave()

    for first in (1, 2, 3, 4):
        use(first, 0)
    use(1, 0)
    use(5, 0)  # in the room of 2
    known = {first: memory.tree.find([first, 0], 2).n for first in (1, 2, 3, 4, 5)}
    assert known == {1: 2, 2: 0, 3: 2, 4: 2, 5: 2}
    one = memory.tree.take([1, 0, 1], 2)
    with pytest.raises(NoPages):  # what stands on pages keeps them
        memory.read(memory.tree.take([6], 0), list(range(300)), 300)
    assert memory.tree.find([1, 0], 2).n == 2 and one.n == 2
