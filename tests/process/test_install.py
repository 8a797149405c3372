"""Built and installed without a network: what wheel and sdist have, and the command in an empty folder."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers.places import ROOT
from helpers.process import call
from twofile.command.table import COMMANDS
from twofile.errors import RELEASE
from twofile.front.habits import COMMANDS as KNOWN
from twofile.modelfile import open_model

setuptools = pytest.importorskip("setuptools", "77", reason="a wheel is built by setuptools 77 or newer")
pytest.importorskip("pip", reason="a wheel is built and installed by pip")

NAMES = "setup.py pyproject.toml MANIFEST.in README.md LICENSE requirements.txt run.py export.py model.bin tokenizer.bin"
FOLDERS = "twofile train"  # one of them is no package
ASKED = ("-p", "Once upon a time", "-s", "1", "-n", "40")
ID = open_model(ROOT / "model.bin").model_id


def done(*command, cwd, rc=0, stdin=b"", **env):
    found = subprocess.run(
        list(map(str, command)), cwd=cwd, input=stdin, capture_output=True, env={**os.environ, **env}, timeout=300
    )
    assert found.returncode == rc and b"Traceback" not in found.stderr, (found.returncode, found.stderr.decode())
    return found


def built(source, folder):
    """The wheel of a folder or of an sdist."""
    made = ["wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check", "-w", folder]
    done(sys.executable, "-m", "pip", *made, source, cwd=folder.parent)
    (wheel,) = folder.glob("*.whl")
    return wheel


def installed(folder, *what):
    """A virtual environment, empty but for that; numpy and numba are those that the tests run with."""
    venv.create(folder, symlinks=os.name == "posix")
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    how = ["install", "-q", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    done(sys.executable, "-m", "pip", "--python", folder / "bin" / "python", *how, *what, cwd=folder)
    (folder / "empty").mkdir()

    def run(*words, python=False, **how):
        program = ["python", "-m", "twofile"] if python else ["twofile"]
        return done(folder / "bin" / program[0], *program[1:], *words, **{"cwd": folder / "empty", **how})

    return SimpleNamespace(run=run, folder=folder, empty=folder / "empty", packages=packages)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The files of a checkout that have to do with it, and some that have not."""
    folder = tmp_path_factory.mktemp("tree") / "twofile"
    for name in FOLDERS.split():
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "bundled"))
    for name in NAMES.split():
        shutil.copy(ROOT / name, folder)
    (folder / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "twofile.1", folder / "docs")
    (folder / "build" / "lib" / "twofile").mkdir(parents=True)
    (folder / "build" / "lib" / "twofile" / "left_over.py").write_text("")
    (folder / "tests").mkdir()
    (folder / "tests" / "test_x.py").write_text("")
    return folder


@pytest.fixture(scope="module")
def wheel(tree, tmp_path_factory):
    return built(tree, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def program(wheel, tmp_path_factory):
    return installed(tmp_path_factory.mktemp("installed") / "venv", wheel)


def contents(wheel):
    """{name: bytes} but for the list of hashes."""
    with zipfile.ZipFile(wheel) as z:
        return {name: z.read(name) for name in z.namelist() if not name.endswith("/RECORD")}


def test_the_wheel_has_the_package_and_nothing_else(wheel, tree):
    """Every file of twofile/, the two of the model, the man page, and what says whose they are."""
    found, info = contents(wheel), f"twofile-{RELEASE}.dist-info"
    want = {p.relative_to(ROOT).as_posix(): p for p in (ROOT / "twofile").rglob("*") if p.is_file() and p.suffix != ".pyc"}
    want |= {f"twofile/bundled/{name}": ROOT / name for name in ("model.bin", "tokenizer.bin")}
    want |= {f"twofile-{RELEASE}.data/data/share/man/man1/twofile.1": ROOT / "docs" / "twofile.1"}
    told = {f"{info}/{name}" for name in "METADATA WHEEL entry_points.txt top_level.txt licenses/LICENSE".split()}
    assert found.keys() == want.keys() | told
    assert {name for name, path in want.items() if found[name] != path.read_bytes()} == set()
    assert wheel.name == f"twofile-{RELEASE}-py3-none-any.whl" and wheel.stat().st_size < 3.5e6
    needs = re.findall(r"^Requires-Dist: (\w+)[^;\n]*$", found[f"{info}/METADATA"].decode(), re.M)
    assert sorted(needs) == ["numba", "numpy"]


def test_the_sdist_makes_the_same_wheel(tree, wheel, tmp_path):
    script = "import sys, setuptools.build_meta as b; print(b.build_sdist(sys.argv[1]))"
    done(sys.executable, "-c", script, tmp_path, cwd=tree)
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as tar:
        names = {name.partition("/")[2].partition("/")[0] for name in tar.getnames()}
    assert set(NAMES.split()) <= names and not {"train", "tests"} & names
    again = tmp_path / "again"
    again.mkdir()
    assert contents(built(sdist, again)) == contents(wheel)


def test_the_story_without_a_model(program):
    """The bytes of run.py, in an empty folder, which stays empty; as a command, by run, as a module, by path, by a pipe."""
    want = call(ROOT / "model.bin", *ASKED, "-q").stdout
    assert len(want) > 100
    model = program.packages / "twofile" / "bundled" / "model.bin"
    for words in (ASKED, ("run", *ASKED), (model, *ASKED), ("run", "-m", model, *ASKED)):
        assert program.run(*words, "-q").stdout == want
    assert program.run(*ASKED, "-q", python=True).stdout == want
    assert program.run(*ASKED[2:], "-q", stdin=b"Once upon a time").stdout == want
    assert list(program.empty.iterdir()) == []


def test_it_says_which_model(program):
    model = program.packages / "twofile" / "bundled" / "model.bin"
    told = program.run("--version").stdout.decode()
    assert told.startswith(f"twofile {RELEASE}, format ") and told.count("\n") == 1 and str(model) in told
    info = json.loads(program.run("--info", "--json").stdout)
    assert info["model_id"] == ID and Path(info["file"]) == model
    script = "import twofile; print(twofile.__file__)"
    assert str(program.packages) in done(program.folder / "bin" / "python", "-c", script, cwd=program.empty).stdout.decode()


def test_chat(program):
    """One turn in a pipe; without a model one line tells of larger ones, unless it should be quiet."""
    plain = program.run("chat", "-p", "Hi", "-n", "9", "-s", "1")
    notice, *rest = plain.stderr.decode().splitlines()
    assert "twofile export" in notice and "bundled model" in notice and len(rest) == 1
    for words in (
        ("chat", ROOT / "model.bin"),
        ("chat", "-m", ROOT / "model.bin"),
        ("chat", "-q"),
        (ROOT / "model.bin", "--chat"),
    ):
        again = program.run(*words, "-p", "Hi", "-n", "9", "-s", "1")
        assert again.stdout == plain.stdout and b"larger" not in again.stderr
    assert plain.stdout == call(ROOT / "model.bin", "--chat", "-p", "Hi", "-n", "9", "-s", "1").stdout


def test_batch(program, tmp_path):
    """MODEL FILE or FILE, before and behind flags and their values."""
    (tmp_path / "q.jsonl").write_text('{"prompt": "The fox", "max_tokens": 9}\n')
    model, flags = ROOT / "model.bin", ("-s", "1", "-q")
    want = call(model, "--batch", tmp_path / "q.jsonl", *flags).stdout
    ways = (("q.jsonl", *flags), (model, "q.jsonl", *flags), (*flags, model, "q.jsonl"), (model, *flags, "q.jsonl"))
    for words in (*ways, ("-m", model, "q.jsonl", *flags), (f"--model={model}", *flags, "q.jsonl")):
        assert program.run("batch", *words, cwd=tmp_path).stdout == want
    assert program.run("batch", "-", *flags, stdin=(tmp_path / "q.jsonl").read_bytes()).stdout == want
    program.run("batch", "q.jsonl", *flags, "-o", "a.jsonl", cwd=tmp_path)
    assert (tmp_path / "a.jsonl").read_bytes() == want


def test_bench(program):
    for model in ((), (ROOT / "model.bin",)):
        rows = program.run("bench", *model, "-p", "8", "-n", "2", "-r", "1", "-o", "jsonl").stdout.splitlines()
        assert [json.loads(row)["n_gen"] for row in rows] == [0, 2]


def test_export(program):
    """A file of the exporter's, which is then run; its own errors, under its name as a command."""
    program.run("export", "--random", "15M", "-o", program.folder / "made.bin")
    assert program.run(program.folder / "made.bin", "--verify").stdout.endswith(b"match their SHA-256\n")
    refused = program.run("export", "nowhere", "-o", program.folder / "x.bin", rc=1)
    assert refused.stderr.startswith(b"twofile export: error: nowhere: ")
    assert program.run("export", rc=2).stderr.startswith(b"usage: twofile export ")


def test_serve(program):
    """Without a model: the bundled one."""
    for name in ("starlette", "uvicorn", "jsonschema", "prometheus_client", "llguidance"):
        pytest.importorskip(name, reason="the server's packages are not here")
    command = [program.folder / "bin" / "twofile", "serve", "--port", "0"]
    p = subprocess.Popen(command, cwd=program.empty, stderr=subprocess.PIPE, text=True)
    told = iter(p.stderr.readline, "")
    try:
        assert any("http://127.0.0.1:" in line for line in told)
    finally:
        p.send_signal(signal.SIGTERM)
        p.stderr.read()
        p.stderr.close()
    assert p.wait(60) in (0, 143)


def test_a_file_that_is_called_as_a_command_is(program, tmp_path):
    for name in ("model.bin", "tokenizer.bin"):
        shutil.copy(ROOT / name, tmp_path / name.replace("model.bin", "run"))
    verified = lambda *words, **how: program.run(*words, "--verify", cwd=tmp_path, **how).stdout.decode()
    assert verified("./run").startswith("./run: all") and verified("run", "run").startswith("run: all")
    assert "bundled" in verified("run")


@pytest.mark.parametrize(
    "words, rc, says",
    [
        ("serv", 2, "serv: no command, nor a file that is here; expected a model.bin or one of run, chat, "),
        ("Once_upon", 2, "a prompt is given by -p TEXT"),
        ("nowhere.bin -p x", 1, "nowhere.bin: not found; expected a model.bin"),
        ("run nowhere -p x", 1, "nowhere: not found; expected a model.bin"),
        ("run serve -p x", 2, "serve is a command of twofile; here a model.bin comes first"),
        ("batch", 2, "batch: 0 files, expected MODEL FILE"),
        ("batch a b c", 2, "batch: 3 files, expected MODEL FILE"),
        ("batch -m a b c", 2, "batch: 2 files beside -m, expected MODEL FILE"),
        ("batch -o x", 2, "batch: 0 files, expected MODEL FILE"),
        ("help nothing", 2, "help: nothing: no topic; expected one of run, models, "),
        ("completion", 2, "completion: no shell, expected one of bash, zsh, fish"),
        ("completion csh", 2, "completion: csh, expected one of bash, zsh, fish"),
        ("bench -r 0", 2, "twofile bench: error: -r is 0"),
        ("chat -p x -hf y", 2, "make one of a file or folder with twofile export SOURCE"),
    ],
)
def test_errors(program, words, rc, says):
    found = program.run(*words.split(), rc=rc)
    assert found.stdout == b"" and says in found.stderr.decode()


def test_run_py_has_no_commands(tmp_path):
    """Its first word is the model: a hint what each command is there, unless a file is called so."""
    assert KNOWN.keys() == {"version", *(command.name for command in COMMANDS)}
    for word in KNOWN:
        found = call(word, ROOT / "model.bin")
        said = f"error: {word} is a command of twofile; here a model.bin comes first; {KNOWN[word]}"
        assert (
            found.returncode == 2
            and found.stdout == b""
            and re.sub("twofile export", "export.py", said) in found.stderr.decode()
        )
    for name in ("model.bin", "tokenizer.bin"):
        shutil.copy(ROOT / name, tmp_path / name.replace("model.bin", "bench"))
    told = subprocess.run([sys.executable, ROOT / "run.py", "bench", "--verify"], cwd=tmp_path, capture_output=True)
    assert told.returncode == 0 and told.stdout.startswith(b"bench: all")


def test_editable(tree, tmp_path):
    """The package and the model of the checkout: nothing is copied."""
    program = installed(tmp_path / "venv", "-e", tree)
    assert program.run(*ASKED, "-q").stdout == call(ROOT / "model.bin", *ASKED, "-q").stdout
    assert str(tree / "model.bin") in program.run("--version").stdout.decode()
    assert not (tree / "twofile" / "bundled").exists()


def test_extras_are_what_the_files_ask_for():
    """Of pyproject.toml: dev, serve, docs and train bring what stands in the files for those who do not install the package."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = lambda name: {row for row in (ROOT / name).read_text().splitlines() if row[:1].isalpha()}
    assert extras.keys() == {"export", "serve", "structure", "tools", "train", "dev", "docs"}
    assert set(extras["serve"]) == asked("requirements-serve.txt") and set(extras["structure"]) <= set(extras["serve"])
    assert set(extras["docs"]) == asked("requirements-docs.txt")
    assert set(extras["train"]) == {row for row in asked("train/requirements.txt") if not row.startswith("numpy")}
    dev = {row for name in ("dev", "export", "serve", "tools") for row in extras[name]} - {"twofile[export,serve,tools]"}
    assert dev == asked("requirements-dev.txt") | asked("requirements-serve.txt") | {"pytest>=8,<10"}
    assert set(project["dependencies"]) | {"pytest>=8,<10"} == asked("requirements.txt")
