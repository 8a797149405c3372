"""Pages of the cache, shared by texts that begin alike."""

import collections
import heapq
import itertools

from .program.operands import KEYS


def alike(a, b):
    """How many first entries two lists have in common."""
    n = min(len(a), len(b))
    return n if a[:n] == b[:n] else next(i for i in range(n) if a[i] != b[i])


class NoPages(Exception):
    """All pages are in use by texts that are being read or written."""


class Node:
    """A page: the ids at its positions, behind those of its parent.

    users: texts that stand on it. used: when the last of them left. after: {id: [Node]}, those
    behind it, by their first id. states: {count: copies of what layers with states know after so
    many of ids}. key: see Spill.
    """

    __slots__ = ("ids", "page", "parent", "after", "users", "used", "states", "key")

    def __init__(self, page, parent):
        self.ids, self.page, self.parent, self.after = [], page, parent, {}
        self.users, self.used, self.states, self.key = 1, 0, {}, None

    def link(self):
        """Be found from the parent on. Called when it has its first id."""
        self.parent.after.setdefault(self.ids[0], []).append(self)


class Found(list):
    """The nodes that stand for the beginning of a text whole; then count positions of another
    (near), or 0; states after all of them, where there are states."""

    near, count, states = None, 0, ()

    @property
    def n(self):
        return KEYS * len(self) + self.count


class Pages:
    """A tree of nodes (Zheng et al. 2024, in pages as of Kwon et al. 2023): what texts have read,
    until its room is needed; those that nobody used for longest go first.

    count: how many there are. copy(source, page) copies one. marks: how many copies of states are
    kept; 0 where there are none. spill: a Spill, or None.
    """

    def __init__(self, count, copy, marks=0, spill=None):
        self.count, self.copy, self.spill = count, copy, spill
        self.most_marks, self.marks = marks, collections.OrderedDict()  # {(Node, count): None}
        self.root, self.free = Node(None, None), list(range(count - 1, -1, -1))
        self.clock, self.idle = itertools.count(1), []  # a heap of those that may go

    def find(self, ids, most):
        """-> the Found of ids, of at most so many positions."""
        found, best, node, at = Found(), Found(), self.root, 0
        while at < most:
            near, count, rest = None, 0, ids[at : min(most, at + KEYS)]
            for child in node.after.get(rest[0], ()):
                if child.ids[count : count + 1] != rest[count : count + 1]:
                    continue  # it cannot have more
                n = alike(child.ids, rest)
                if n > count:
                    near, count = child, n
            if self.spill and count < len(rest) == KEYS:
                near = self.recalled(node, rest) or near
                count = alike(near.ids, rest) if near else 0
            known = max((n for n in near.states if n <= count), default=0) if near else 0
            if known:
                best = Found(found)
                best.states = near.states[known]
                self.marks.move_to_end((near, known))
                if known == KEYS:
                    best.append(near)
                else:
                    best.near, best.count = near, known
            if count < KEYS:
                found.near, found.count = near, count
                break
            found.append(near)
            node, at = near, at + KEYS
        return best if self.most_marks else found

    def take(self, ids, most):
        """-> a Text that has as much of ids as is found, of at most so many positions."""
        found = self.find(ids, most)
        text, near, count = Text(self, found), found.near, found.count
        for node in found:
            node.users += 1
        if count and count == len(near.ids) and not near.users:
            near.users = 1  # nobody's: go on in it
            text.nodes.append(near)
            text.n += count
        elif count:
            near.users += 1
            try:
                text.room(text.n + 1)
                self.copy(near.page, text.nodes[-1].page)
                text.grow(near.ids[:count])
            except NoPages:
                pass  # its ids are read again
            near.users -= 1
            text.leave_node(near)
        if text.n == found.n:
            text.states = found.states
        elif self.most_marks:
            text.leave()
        return text

    def page(self):
        """The number of a page that nobody uses. Raises NoPages."""
        while not self.free:
            if not self.idle:
                raise NoPages
            item = heapq.heappop(self.idle)
            if self.may_go(*item):
                self.drop(item[-1])
        return self.free.pop()

    def drop(self, node):
        """Forget what is in a page, the last of its branch."""
        if self.spill:
            self.spill.keep(node)
        for count in node.states:
            del self.marks[node, count]
        beside = node.parent.after[node.ids[0]]
        beside.remove(node)
        if not beside:
            del node.parent.after[node.ids[0]]
        self.free.append(node.page)
        node.page = None
        self.rest(node.parent)

    def rest(self, node):
        """A node may go, if nobody stands on it and nothing behind it."""
        if node.users or node.after or node is self.root:
            return
        if len(self.idle) > 4 * self.count:
            self.idle = [item for item in self.idle if self.may_go(*item)]
            heapq.heapify(self.idle)
        heapq.heappush(self.idle, (node.used, next(self.clock), node))

    def may_go(self, used, order, node):
        """Whether an entry of idle still holds."""
        return node.page is not None and not node.users and not node.after and node.used == used

    def recalled(self, parent, ids):
        """The node of a page of ids that was kept on disk, or None."""
        raw = self.spill.recall(parent, ids)
        if raw is None:
            return None
        parent.users += 1
        try:
            node = Node(self.page(), parent)
        except NoPages:
            return None
        finally:
            parent.users -= 1
        node.ids, node.users, node.used = list(ids), 0, next(self.clock)
        node.link()
        self.spill.put(self, node, raw)
        self.rest(node)
        return node

    def mark(self, node, count, states):
        """Keep copies of states as they are after count ids of a node."""
        while len(self.marks) >= self.most_marks:
            (other, n), _ = self.marks.popitem(last=False)
            del other.states[n]
        node.states[count] = states
        self.marks[node, count] = None

    def nodes(self):
        """All that are in the tree, parents first."""
        left = [self.root]
        while left:
            node = left.pop()
            below = [child for beside in node.after.values() for child in beside]
            yield from below
            left += below


class Text:
    """What the cache has of one text: n positions, in the pages of its nodes. What stands behind
    the n-th is not sure; those are its own pages, into which it writes."""

    def __init__(self, pages, nodes):
        self.pages, self.nodes, self.n, self.states = pages, list(nodes), KEYS * len(nodes), ()

    def last(self):
        return self.nodes[-1] if self.nodes else self.pages.root

    def room(self, end):
        """Have pages for positions before end. Raises NoPages; those it got stay."""
        while KEYS * len(self.nodes) < end:
            self.nodes.append(Node(self.pages.page(), self.last()))

    def grow(self, ids):
        """These stand at the next positions, for sure."""
        at = 0
        while at < len(ids):
            node = self.nodes[self.n // KEYS]
            part = ids[at : at + KEYS - self.n % KEYS]
            node.ids += part
            if len(node.ids) == len(part):
                node.link()
            self.n, at = self.n + len(part), at + len(part)

    def mark(self, states):
        """Keep copies of the states after its n positions."""
        if self.n and self.pages.most_marks:
            self.pages.mark(self.nodes[(self.n - 1) // KEYS], (self.n - 1) % KEYS + 1, states)

    def ids(self):
        return [i for node in self.nodes for i in node.ids]

    def leave(self):
        """Be no longer; what it has read is for others to find."""
        for node in reversed(self.nodes):
            node.users -= 1
            self.leave_node(node)
        self.nodes, self.n = [], 0

    def leave_node(self, node):
        if node.users:
            return
        node.used = next(self.pages.clock)
        if node.ids:
            self.pages.rest(node)
        else:
            self.pages.free.append(node.page)
            node.page = None
