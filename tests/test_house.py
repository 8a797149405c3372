"""The house: floors, circles, sizes, what may be imported where, that run.py is bound, what the documents tell."""

import ast
import functools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bind
import floorplan
import twofile
from helpers.places import ROOT
from twofile.compiler.kept import COMPILED
from twofile.errors import FLAG_OF
from twofile.front.mode import SET_BY
from twofile.front.modes import all_flags

HOUSE = ROOT / "twofile"
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "train/README.md", "examples/README.md")]
DOCUMENTS += sorted((ROOT / "docs").glob("*.md"))
ROOMS = {p.relative_to(HOUSE).with_suffix("").as_posix(): p for p in sorted(HOUSE.rglob("*.py")) if p.name[:2] != "__"}
TREES = {name: ast.parse(path.read_text()) for name, path in ROOMS.items()}
BESIDE = ("export/", "serve/", "command/")
BOUND = [name for name in ROOMS if not name.startswith(BESIDE)]
MOST_LINES, MOST_OF_A_FUNCTION, MOST_COLUMNS = 260, 60, 100  # of a room, and of what stands in it


def arrows(name):
    """[(room, names, statement)] that a room imports from the house, wherever in it."""
    found = []
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.ImportFrom) and node.level:
            here = name.split("/")[:-1]
            place = [*here[: len(here) - node.level + 1], *(node.module or "").split(".")]
            found.append(("/".join(place).strip("/"), [a.name for a in node.names], node))
    return found


def outside(tree):
    """The packages that a file imports, wherever in it, but for its own and the standard library's."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names)


def python(*args, cwd=ROOT, rc=0):
    done = subprocess.run([sys.executable, *map(str, args)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == rc, done.stderr
    return done.stdout


# floors


def test_every_room_stands_on_a_floor_and_arrows_go_down():
    """The floors are bind.FLOORS; reading them is reading the plan."""
    placed = [room.name for _, rooms in bind.floors() for room in rooms]
    assert sorted(placed) == sorted(BOUND) and len(placed) == len(set(placed))


def test_no_circles():
    """Nor in the exporter, which has no floors, nor by an import inside a function."""
    left = {name: {room for room, _, _ in arrows(name)} for name in ROOMS}
    while free := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in free:
            del left[name]
    assert left == {}


def test_the_house_does_not_know_what_stands_beside_it():
    assert [(name, room) for name in BOUND for room, _, _ in arrows(name) if room.startswith(BESIDE)] == []


def test_rooms_import_names_and_no_others_secrets():
    wrong = []
    for name in ROOMS:
        for room, names, node in arrows(name):
            wrong += [(name, f"{room} is no room")] * (room not in ROOMS)
            wrong += [(name, room, n) for n in names if n.startswith("_")]
            wrong += [(name, room, f"{a.name} as {a.asname}") for a in node.names if a.asname]
    assert wrong == []


def test_two_levels_of_folders():
    assert [name for name in ROOMS if name.count("/") > 2] == []


# sizes


def test_rooms_are_small():
    assert {name: n for name, p in ROOMS.items() if (n := len(p.read_text().splitlines())) > MOST_LINES} == {}


def test_functions_are_short():
    long = {}
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= MOST_OF_A_FUNCTION:
                long[name, node.name] = node.end_lineno - node.lineno + 1
    assert long == {}


def test_lines_are_short():
    files = [*ROOMS.values(), *ROOT.glob("*.py"), *(ROOT / "tools").glob("*.py")]
    found = [(str(p), n) for p in files for n, x in enumerate(p.read_text().splitlines(), 1) if len(x) > MOST_COLUMNS]
    assert found == []


def test_every_room_says_what_it_is_for():
    first = {name: (ast.get_docstring(tree) or "").split("\n")[0] for name, tree in TREES.items()}
    assert {name: line for name, line in first.items() if not 10 <= len(line) <= 75 or line[-1] != "."} == {}


# what may be imported where


def test_numba_is_known_to_the_compiler_only():
    """And to the words that it compiles: so a warm start never imports it."""
    allowed = ("words/", "machines/", "compiler/")
    found = [name for name, tree in TREES.items() if outside(tree) & {"numba", "llvmlite"}]
    assert [name for name in found if not name.startswith(allowed)] == []


def test_the_house_needs_numpy_and_numba_and_nothing_else():
    """Nor what a user may ask for, which the binder lets into functions only; but the server, which is an extra."""
    asked = {"structure": {"llguidance"}, "tools/mcp": {"mcp"}, "completions": {"typing_extensions"}}
    asked["typeddicts"] = {"typing_extensions"}
    assert bind.ASKED_FOR == asked
    extra = {"serve": {"starlette", "uvicorn", "jsonschema", "prometheus_client"}, "export": {"numpy"}}
    for name, tree in TREES.items():
        asked = outside(tree) - bind.ASKED_FOR.get(name, set())
        assert asked <= extra.get(name.partition("/")[0], {"numpy", "numba", "llvmlite"}), name
    assert outside(ast.parse((ROOT / "export.py").read_text())) <= {"numpy", "twofile"}


def test_only_the_front_prints():
    """And the exporter, and one function that gives notice where nobody else listens."""
    printing = []
    for name in BOUND:
        calls = [n.func for n in ast.walk(TREES[name]) if isinstance(n, ast.Call) and not name.startswith("front/")]
        printing += [name for f in calls if isinstance(f, ast.Name) and f.id == "print"]
        printing += [name for f in calls if re.match(r"sys\.(stdout|stderr)\.", ast.unparse(f))]
    assert len(printing) <= 1, printing


def exporters_flags(tree):
    """What stands right behind {EXPORTER} in a text."""
    for text in (node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)):
        for name, part in zip(text.values, text.values[1:]):
            if isinstance(name, ast.FormattedValue) and ast.unparse(name.value) == "EXPORTER":
                yield part


def test_only_the_front_names_flags():
    """A library has options: rooms below name them by set_by(), which knows of a command line. What a command is, export.py's,
    is said as a whole."""
    for name in [name for name in BOUND if not name.startswith("front/")]:
        about = {node.value for node in ast.walk(TREES[name]) if isinstance(node, ast.Expr)}
        exporters = set(exporters_flags(TREES[name]))
        for node in set(ast.walk(TREES[name])) - about:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
                text = re.sub(r"export\.py --[a-z-]+", "", node.value)
                theirs = node in exporters
                assert theirs or not re.search(r"(?<![\w.])--?[a-z]", text), (name, node.value)
    known = {word for flag in all_flags() for word in flag.names}
    assert set(SET_BY.values()) <= known and not FLAG_OF


def test_what_a_program_imports():
    names = "Memory Model Tokenizer Sampling Chunk Writer open_model verify __version__"
    names += " ModelError WrongValue WrongType MissingFile Busy"
    names += " Stream AsyncStream ObjectStream Tools ToolCall Reader Options ChatOptions Message ChatMessage"
    names += " Completion CompletionChunk ChatCompletion ChatCompletionChunk"
    assert sorted(twofile.__all__) == sorted(names.split())
    assert all(hasattr(twofile, name) for name in twofile.__all__) and (HOUSE / "py.typed").exists()


@pytest.mark.parametrize("name", ["run", "twofile"])
def test_importing_starts_nothing(name):
    python("-c", f"import sys, threading, {name}; assert threading.active_count() == 1; assert 'numba' not in sys.modules")


# the bound file


def test_run_is_bound():
    assert (ROOT / "run.py").read_text() == bind.bound(), "run.py is not what twofile/ says: make run.py"
    first = ast.get_docstring(ast.parse((ROOT / "run.py").read_text())).split("\n")[0]
    assert "twofile/" in first and "make run.py" in first and "edit" in first
    assert "run.py linguist-generated" in (ROOT / ".gitattributes").read_text()
    commands = [
        x for x in (ROOT / ".ci" / "run").read_text().splitlines() if x[:1] not in "#" and x[:4] != "set " and x[:3] != "cd "
    ]
    assert commands[0].endswith("tools/bind.py --check")


def test_nothing_binds_as_a_side_effect_of_a_test():
    assert re.search(r"^test:\s*$", (ROOT / "Makefile").read_text(), re.M)


TREE = {
    "needs": '"""First."""\n\nimport sys\n',
    "errors": '"""Errors."""\n\nimport re\n\n\nclass Wrong(Exception):\n    pass\n',
    "low/a": '"""A."""\n\nfrom ..errors import Wrong\n\n\ndef a():\n    return Wrong\n',
    "low/b": '"""B."""\n\nimport re\n\nfrom .a import a\n\n\ndef b():\n    from ..errors import Wrong\n\n    return a, Wrong\n',
    "structure": '"""S."""\n\n\ndef s():\n    import llguidance\n\n    return llguidance\n',
    "top": '"""Top."""\n\nfrom .low.b import b\n\n\ndef launch():\n    b()\n',
}
PLAN = (("the ground", "needs errors"), ("the middle", "low/"), ("above", "top structure"))


def built(folder, **changed):
    for name, text in {**TREE, **{k.replace("__", "/"): v for k, v in changed.items()}}.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


def test_the_binder_binds(tmp_path):
    """In the order of need, text unchanged, imports between rooms dropped, the library's gathered."""
    text = bind.bound(built(tmp_path), PLAN)
    order = "needs errors low/a low/b top structure"
    assert " ".join(re.findall(r"^# twofile/(\S+)\.py$", text, re.M)) == order
    assert text.count("import re\n") == 1 and "from ." not in text and "    return a, Wrong\n" in text
    ast.parse(text)


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"low__a": '"""A."""\n\nfrom .b import b\n\n\ndef a():\n    return b\n'}, "a circle, low/a -> low/b -> low/a"),
        ({"errors": '"""E."""\n\nfrom .top import launch\n\nlaunch()\n'}, "needs top, which is above it"),
        ({"low__b": '"""B."""\n\n\ndef a():\n    pass\n'}, "defines a, as twofile/low/a.py does"),
        ({"low__b": '"""B."""\n\nfrom os import a\n'}, "imports a, which is low/a elsewhere"),
        ({"low__b": '"""B."""\n\nfrom shutil import re\n'}, "imports re, which is import re elsewhere|from shutil elsewhere"),
        ({"top": '"""T."""\n\nfrom .low.b import b as c\n'}, "imports a name `as` another"),
        ({"top": '"""T."""\n\nimport os.path as p\n'}, "imports a name `as` another"),
        ({"top": '"""T."""\n\nfrom .low import b\n'}, "imports low as a module"),
        ({"top": '"""T."""\n\nfrom __future__ import annotations\n'}, "imports from __future__"),
        ({"top": '"""T."""\n\nimport torch\n'}, "imports torch"),
        ({"top": '"""T."""\n\n\ndef f():\n    import torch\n\n    return torch\n'}, "imports torch"),
        ({"structure": '"""S."""\n\nimport llguidance\n'}, "imports llguidance"),
        ({"top": '"""T."""\n\n\ndef f():\n    import llguidance\n\n    return llguidance\n'}, "imports llguidance"),
        ({"top": '"""T."""\n\nimport numba\n'}, "import numba"),
        ({"top": '"""T."""\n\nprint(__file__)\n'}, "uses __file__"),
    ],
)
def test_the_binder_refuses(changed, says, tmp_path):
    """What could not be bound, in one line of four parts."""
    with pytest.raises(bind.Refused, match=says) as caught:
        bind.bound(built(tmp_path, **changed), PLAN)
    assert re.match(r"twofile/\S+\.py: .*, expected .*; change the room$", str(caught.value))


# the program, three ways


def test_the_file_travels_and_the_package_says_the_same(tmp_path):
    """run.py with model.bin and tokenizer.bin in an empty folder, by itself; and as a package; as a module."""
    for name in ("run.py", "model.bin", "tokenizer.bin"):
        shutil.copy(ROOT / name, tmp_path)
    shown = re.search(r"exactly this, on every machine\):\n\n```\n(.*?)\nprompt \d+ tok", README, re.S).group(1)
    asked = ("model.bin", "-p", "Once upon a time", "-s", "1", "-q")
    told = python("-I", "run.py", *asked, cwd=tmp_path)
    assert told.split() == shown.split()
    assert python("-m", "twofile", *asked) == python("-m", "run", *asked) == told


def copied(folder):
    """The house and the bound file, to be changed."""
    shutil.copytree(HOUSE, folder / "twofile", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "run.py", folder)
    return folder


def keys(folder):
    """The hash of what kernels are compiled from, by the package and by the bound file."""
    script = "import hashlib, sys; sys.path.insert(0, sys.argv[1]); {}; print(hashlib.sha256(sources()).hexdigest())"
    ways = ("from twofile.compiler.kept import sources", "from run import sources")
    return [python("-c", script.format(way), folder, cwd=folder) for way in ways]


def edited(path, old, new):
    text = path.read_text()
    assert text.count(old) >= 1
    path.write_text(text.replace(old, new))


def test_the_package_and_the_file_share_their_kernels(tmp_path):
    """What is compiled is kept under the text of the rooms that are compiled, whichever way it is read."""
    house, bound = keys(ROOT)
    assert house == bound
    folder = copied(tmp_path)
    assert keys(folder) == [house] * 2
    front = sorted((folder / "twofile" / "front").glob("*.py"))
    for path in (front[1], folder / "twofile" / "model.py"):
        path.write_text(path.read_text() + "\n\ndef one_more():\n    pass\n")
    edited(folder / "run.py", '"""Bound', '"""Once bound')
    (folder / "run.py").write_text((folder / "run.py").read_text() + "\n\ndef one_more():\n    pass\n")
    assert keys(folder) == [house] * 2
    edited(folder / "twofile" / "kernels" / "norm.py", "def norm(", "def  norm(")
    edited(folder / "run.py", "def norm(", "def  norm(")
    changed = keys(folder)
    assert changed[0] == changed[1] != house


def test_what_kernels_are_made_of_is_in_the_key():
    """Every room that a kernel's code can come from, however far below it stands."""
    left, made_of = [name for name in BOUND if name.startswith("kernels/")], set()
    while left:
        name = left.pop()
        made_of.add(name)
        left += [room for room, _, _ in arrows(name) if room not in made_of]
    assert len(made_of) > 15 and sorted(name for name in made_of if not f"{name}.py".startswith(COMPILED)) == []


# what the documents tell


def test_the_map_is_the_folder():
    """docs/architecture.md has one line for each room: its name, and its docstring's first."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    assert floorplan.drawn() in text, "docs/architecture.md is not what twofile/ says: make run.py"
    listed = dict(re.findall(r"^    (\S+) {2,}(.+)$", text, re.M))
    assert listed == {name: ast.get_docstring(tree).split("\n")[0] for name, tree in TREES.items()}


def test_documents_name_files_that_exist():
    """Each path in back quotes, and what each link leads to, the heading too."""
    for name in DOCUMENTS:
        text = name.read_text()
        for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
            path, _, heading = link.partition("#")
            there = name.parent / path if path else name
            assert there.exists(), (name, link)
            if heading:
                titles = re.findall(r"^#+ (.+)$", there.read_text(), re.M)
                assert heading in [re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in titles], (name, link)
        for path in re.findall(
            r"`((?:twofile|tests|tools|docs|train|examples)/[\w/.-]+\.\w+|(?:twofile|tests)/[\w/-]+/)`", text
        ):
            assert (ROOT / path).exists() or not Path(path).stem.islower(), (name, path)


def test_rooms_name_rooms_that_exist():
    """And programs beside the house: each path that a room's text sends its reader to."""
    path = re.compile(r"(?<![\w./])[a-z]+/[a-z0-9]+\.py")
    named = {(name, found) for name, room in ROOMS.items() for found in path.findall(room.read_text())}
    there = lambda path: any((folder / path).exists() for folder in (HOUSE, HOUSE / "export", ROOT))
    assert len(named) >= 3 and [pair for pair in named if not there(pair[1])] == []


@functools.cache
def helped(program):
    """What a program's --help prints."""
    return subprocess.run([sys.executable, ROOT / program, "--help"], capture_output=True, text=True).stdout


def test_what_the_readme_says_exists():
    """Every path and every flag of a command in the documents is there; so is every `make` target."""
    commands = [c for p in DOCUMENTS for c in re.findall(r"^(?:\$ |    )?((?:python|make|pip) .*)$", p.read_text(), re.M)]
    assert len(commands) >= 30 and README.count("\n") <= 200
    for command in commands:
        words = command.split()
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M), command
        elif words[:1] == ["python"] and words[1].endswith(".py"):
            assert (ROOT / words[1]).exists(), command
            if words[1].startswith("train/"):
                continue
            shown = helped(words[1])
            for flag in re.findall(r"(?<=\s)--?[a-z][a-z-]*", command.split("|")[0]):
                assert re.search(rf"(?<![\w-]){flag}(?![\w-])", shown), (command, flag)


def test_every_flag_is_told():
    for program, name in (("run.py", "usage.md"), ("export.py", "export.md")):
        told = (ROOT / "docs" / name).read_text()
        shown = helped(program)
        for flag in set(re.findall(r"(?<=[\s,])--[a-z][a-z-]*", shown)) - {"--help"}:
            assert f"`{flag}" in told or f" {flag}" in told or f"{flag}`" in told, (program, flag)


def test_every_mode_is_told():
    from twofile.front.modes import MODES

    told = (ROOT / "docs" / "usage.md").read_text()
    asks = [flag for mode in MODES for flag in mode.flags[:1]]
    assert len(asks) >= 10 and [flag.long for flag in asks if flag.long not in told] == []
