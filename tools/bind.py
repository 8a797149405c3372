"""
Bind the rooms of twofile/ into one file, run.py.       python tools/bind.py [--check]

A room's text goes in as it is, but for its docstring, which becomes a banner, and its imports:
those of the standard library are gathered at the top, those of other rooms fall away. Rooms stand
floor by floor, and in a floor in the order in which they need each other.
"""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "twofile"
FLOORS = (  # from the ground up: what a floor is, and its rooms; a folder is all of its rooms
    ("the ground", "errors files forks machine pace plain unseen"),
    ("what stands in a file", "format/"),
    ("what kernels are written in", "words/ machines/"),
    ("from words to machine code", "compiler/"),
    ("a forward as data", "program/"),
    ("what is compiled", "kernels/"),
    ("the parts of a model", "layers/"),
    ("a model that runs, and text", "modelfile tuned forward tokenizer/"),
    (
        "writing",
        "options noops narrowing sampler logprobs structure callform callreader calls calltext "
        "typeddicts told given objects chunk writer guess jobs pages spill engine passes waiting "
        "scheduler streams astreams prompts promptcache vectors scores texts chunks completions "
        "model",
    ),
    ("what stands beside a model", "memory/ tools/"),
    ("the program", "front/"),
)
OUTSIDE = {"numpy", "numba", "llvmlite"}
ASKED_FOR = {  # what a room's functions import where a user asks for it
    "structure": {"llguidance"},
    "tools/mcp": {"mcp"},
    "completions": {"typing_extensions"},  # where a type checker reads it
    "typeddicts": {"typing_extensions"},  # where it is installed
}
RULE = "# " + "-" * 77


class Refused(Exception):
    """What cannot be bound: which room, what was found, what was expected, what to do."""


class Room:
    """One file of the package: its text, the rooms it needs, the names it defines. first: whether
    it is the first of all, which looks at what is there and so keeps its imports."""

    def __init__(self, name, package=PACKAGE, first=False):
        self.name, self.package, self.path = name, package, package / f"{name}.py"
        self.text, self.first = self.path.read_text("utf-8"), first
        self.tree = ast.parse(self.text)
        self.about = ast.get_docstring(self.tree) or ""
        self.needs, self.outside, self.cuts, self.imports = [], [], [], set()
        for parent in ast.walk(self.tree):
            for node in ast.iter_child_nodes(parent):
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    self.take(node, parent)
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name) and node.id == "__file__" and name != "compiler/kept":
                self.refuse("uses __file__", "only compiler/kept to, which finds the sources by it")
        self.defines = {n for node in self.tree.body for n in defined(node)}

    def refuse(self, found, expected):
        raise Refused(f"twofile/{self.name}.py: {found}, expected {expected}; change the room")

    def take(self, node, parent):
        """An import: cut out of the text if the bound file has no use for it there."""
        if isinstance(node, ast.ImportFrom) and node.level:
            if any(alias.asname for alias in node.names):
                self.refuse("imports a name `as` another", "one name everywhere")
            here = self.name.split("/")[:-1]
            base = here[: len(here) - node.level + 1]
            room = "/".join([*base, *(node.module or "").split(".")]).strip("/")
            if not (self.package / f"{room}.py").exists():
                self.refuse(f"imports {room or 'a room'} as a module", "names of a room")
            self.needs.append(room)
            self.cuts.append((node.lineno, node.end_lineno, parent))
            return
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
        if any(a.asname and (a.name, a.asname) != ("numpy", "np") for a in node.names):
            self.refuse("imports a name `as` another", "one name everywhere")
        if "__future__" in names:
            self.refuse("imports from __future__", "today's Python")
        known = set() if parent is self.tree else ASKED_FOR.get(self.name, set())
        foreign = {n.split(".")[0] for n in names} - set(sys.stdlib_module_names) - OUTSIDE
        for top in foreign - known:
            self.refuse(f"imports {top}", "the standard library, numpy, numba, llvmlite")
        if parent is self.tree and not self.first:
            self.cuts.append((node.lineno, node.end_lineno, parent))
            statement = ast.unparse(node)
            if "numpy" in names and statement != "import numpy as np":
                self.refuse(statement, "import numpy as np")
            if names[0].split(".")[0] in OUTSIDE - {"numpy"}:
                self.refuse(statement, "it to be imported where it is used")
            if "numpy" not in names:
                self.outside.append(statement)
                self.imports |= {
                    (a.name.split(".")[0], statement.split(" import ")[0]) for a in node.names
                }

    def body(self):
        """The text without docstring and imports."""
        lines, gone = self.text.split("\n"), {}
        first = self.tree.body[0]
        if self.about:
            gone.update(dict.fromkeys(range(first.lineno, first.end_lineno + 1)))
        for start, end, parent in self.cuts:
            gone.update(dict.fromkeys(range(start, end + 1)))
            inside = [n for n in parent.body if not isinstance(n, (ast.Import, ast.ImportFrom))]
            if parent is not self.tree and not inside:
                self.refuse("a function of imports alone", "something that it does")
        kept = [line for n, line in enumerate(lines, 1) if n not in gone]
        text = "\n".join(kept).strip("\n")
        while "\n\n\n\n" in text:
            text = text.replace("\n\n\n\n", "\n\n\n")
        return text


def defined(node):
    """The names that a statement of a room defines."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        found = [n for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
        return [n.id for n in found if isinstance(n.ctx, ast.Store)]
    return []


def floors(package=PACKAGE, plan=FLOORS):
    """[(what a floor is, [Room])] from the ground up, in the order of need; raises Refused."""
    rooms, floor_of, out = {}, {}, []
    for number, (_, names) in enumerate(plan):
        for name in names.split():
            found = [package / f"{name}.py"]
            if name.endswith("/"):
                found = sorted(package.glob(f"{name}**/*.py"))
            for path in found:
                room = path.relative_to(package).with_suffix("").as_posix()
                if path.name != "__init__.py":
                    first = not rooms
                    rooms[room], floor_of[room] = Room(room, package, first), number
    for number, (what, _) in enumerate(plan):
        order = []
        for room in (r for r in rooms if floor_of[r] == number):
            visit(room, rooms, floor_of, order, [])
        out.append((what, [rooms[r] for r in order]))
    one_meaning([r for _, floor in out for r in floor])
    return out


def one_meaning(rooms):
    """Refuse a name that two rooms define, or import from two places: bound, they share it."""
    owner = {}
    for room in rooms:
        for name in room.defines:
            if owner.setdefault(name, room.name) != room.name:
                known = owner[name]
                room.refuse(
                    f"defines {name}, as twofile/{known}.py does", "a name to have one meaning"
                )
    for room in rooms:
        for name, source in room.imports:
            if owner.setdefault(name, source) != source:
                room.refuse(
                    f"imports {name}, which is {owner[name]} elsewhere",
                    "a name to have one meaning",
                )


def visit(room, rooms, floor_of, order, path):
    """Put a room behind those of its floor that it needs."""
    if room in path:
        circle = " -> ".join([*path[path.index(room) :], room])
        rooms[room].refuse(f"a circle, {circle}", "arrows that go down")
    if room in order:
        return
    for need in rooms[room].needs:
        if need not in floor_of or floor_of[need] > floor_of[room]:
            rooms[room].refuse(f"needs {need}, which is above it", "rooms of its floor or below")
        if floor_of[need] == floor_of[room]:
            visit(need, rooms, floor_of, order, [*path, room])
    order.append(room)


def bound(package=PACKAGE, plan=FLOORS):
    """The text of run.py."""
    house = floors(package, plan)
    rooms = [room for _, floor in house for room in floor]
    wide = max(len(room.name) for room in rooms) + 2
    first = "Bound from the rooms of twofile/ by `make run.py`: edit there, not here."
    text = f'"""{first}\n\n    python run.py model.bin -p "Once upon a time"\n'
    for what, floor in house:
        text += f"\n{what}\n"
        text += "".join(f"    {room.name:{wide}}{room.about.splitlines()[0]}\n" for room in floor)
    text += '"""\n\n# mypy: ignore-errors\n\n'  # in here; who imports it is checked by its types
    text += "\n".join(gathered(s for room in rooms[1:] for s in room.outside)) + "\n"
    for what, floor in house:
        for n, room in enumerate(floor):
            title = f"# ===== {what}\n\n" if n == 0 else ""
            about = "\n".join(f"# {line}".rstrip() for line in room.about.splitlines())
            text += f"\n{title}{RULE}\n# twofile/{room.name}.py\n{about}\n\n{room.body()}\n\n"
    return text + '\nif __name__ == "__main__":\n    launch()\n'


def gathered(statements):
    """Imports of the standard library, each once, in ruff's order."""
    plain, named = set(), {}
    for statement in statements:
        node = ast.parse(statement).body[0]
        if isinstance(node, ast.Import):
            plain.add(statement)
        else:
            named.setdefault(node.module, set()).update(a.name for a in node.names)
    return sorted(plain) + [
        f"from {m} import {', '.join(sorted(n))}" for m, n in sorted(named.items())
    ]


def main(argv):
    path = ROOT / "run.py"
    try:
        text = bound()
    except Refused as e:
        print(f"bind.py: error: {e}", file=sys.stderr)
        return 1
    same = path.exists() and path.read_text("utf-8") == text
    if "--check" in argv:
        if not same:
            print("bind.py: error: run.py is not what twofile/ says; make run.py", file=sys.stderr)
        return 0 if same else 1
    if not same:
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
