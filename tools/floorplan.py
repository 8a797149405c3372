"""
Write the map of rooms into docs/architecture.md.       python tools/floorplan.py [--check]

A line a room: its name, and the first line of its docstring. `make run.py` writes it too.
"""

import ast
import sys

from bind import FLOORS, PACKAGE, ROOT, floors

DOCUMENT = ROOT / "docs" / "architecture.md"
BESIDE = (("export", "the exporter"), ("serve", "the server"), ("command", "the command"))
BEGIN, END = "<!-- the map: written by `make run.py` -->\n", "<!-- the end of the map -->\n"


def first_line(path):
    """What a file says that it is for."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]


def aside(folder, package=PACKAGE):
    """[(room, first line)] of a part of the package that is not bound."""
    rooms = [p for p in sorted(package.glob(f"{folder}/**/*.py")) if p.name[:2] != "__"]
    return [(p.relative_to(package).with_suffix("").as_posix(), first_line(p)) for p in rooms]


def drawn(package=PACKAGE, plan=FLOORS):
    """The map, as it stands in docs/architecture.md between BEGIN and END."""
    parts = [
        (f"{n}. {what[0].upper()}{what[1:]}", [(r.name, r.about.split("\n")[0]) for r in rooms])
        for n, (what, rooms) in enumerate(floors(package, plan), 1)
    ]
    for folder, what in BESIDE:
        parts.append((f"Beside the house: {what}, which is not bound", aside(folder, package)))
    text = ""
    for what, rooms in parts:
        wide = max((len(name) for name, _ in rooms), default=0) + 2
        lines = "".join(f"    {name:{wide}}{about}\n" for name, about in rooms)
        text += f"\n**{what}**\n\n{lines}" if rooms else ""
    return text + "\n"


def main(argv):
    whole = DOCUMENT.read_text()
    before, _, rest = whole.partition(BEGIN)
    _, _, after = rest.partition(END)
    text = before + BEGIN + drawn() + END + after
    if "--check" in argv:
        return int(text != whole)
    if text != whole:
        DOCUMENT.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
