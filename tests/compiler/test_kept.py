"""Object code kept between runs: only ours, only whole. Rows E4, E5 and E13 of the list of harms."""

import os
import subprocess
import sys

import pytest

from helpers.hostile import posix
from helpers.logits import SILENT
from helpers.places import ROOT
from helpers.rooms import patch
from twofile.compiler.code import Code
from twofile.compiler.compile import compile_kernel
from twofile.compiler.kept import cache_folder, read_cached, write_cached
from twofile.kernels.play import sweep
from twofile.machines.host import host


def damaged(path, how):
    """One kernel's file in the cache, in another state; the code in it is whole in the last four."""
    raw = path.read_bytes()
    if how == "a link":
        path.rename(path.with_name("elsewhere"))
        path.symlink_to("elsewhere")
    elif how == "a pipe":
        path.unlink()
        os.mkfifo(path)
    elif how == "a folder":
        path.unlink()
        path.mkdir()
    elif how == "writable by others":
        path.chmod(0o620)
    elif how == "somebody else's":
        os.chown(path, 12345, -1)
    else:
        path.write_bytes(
            {"empty": b"", "cut": raw[:-9], "one bit": raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:], "noise": b"x" * 999}[how]
        )


STATES = ["empty", "cut", "one bit", "noise", "a pipe", "a folder", "a link", "writable by others", "somebody else's"]


@posix
def test_e5_kernels_that_others_may_have_written_are_compiled_again(tmp_path, monkeypatch):
    """The cache holds object code, which runs: a file that is damaged, or a link, or that others can write, is not loaded."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "c"))
    compiled, real, said = [], compile_kernel, []
    kept = real(sweep, host().machine)
    patch(monkeypatch, "compile_kernel", lambda kernel, machine: compiled.append(kernel.name) or kept)
    Code([sweep], SILENT)
    (path,) = (p for p in (tmp_path / "c").rglob("sweep"))
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    Code([sweep], said.append)
    assert compiled == ["sweep"] and said == []
    for how in STATES:
        if how == "somebody else's" and os.getuid():
            continue  # only root can give files away
        compiled.clear(), said.clear()
        damaged(path, how)
        Code([sweep], said.append)
        assert compiled == ["sweep"] and "damaged or not ours" in said[0], how
        if how == "a folder":
            path.rmdir()
            Code([sweep], SILENT)
        compiled.clear()
        Code([sweep], SILENT)
        assert compiled == [], how


@posix
@pytest.mark.parametrize("how", ["group", "others", "owner", "link", "file", "relative"])
def test_e5_folders_that_others_can_write_are_not_used(how, tmp_path, monkeypatch):
    top, said = tmp_path / "twofile", []
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path) if how != "relative" else "cache")
    monkeypatch.chdir(tmp_path)
    assert (
        cache_folder(("isa", "cpu", ""), said.append) is None
        if how == "relative"
        else top in (cache_folder(("isa", "cpu", ""), said.append).parents)
    )
    (key,) = top.iterdir() if how != "relative" else [None]
    if how in ("group", "others"):
        (top if how == "group" else key).chmod(0o770 if how == "group" else 0o707)
    elif how == "owner":
        if os.getuid():
            pytest.skip("only root can give folders away")
        os.chown(key, 12345, -1)
    elif how == "link":
        top.rename(tmp_path / "mine")
        top.symlink_to(tmp_path / "mine")
    elif how == "file":
        key.rmdir()
        key.write_text("")
    assert cache_folder(("isa", "cpu", ""), said.append) is None and "kernels cannot be kept" in said[-1]


@posix
def test_e4_nowhere_to_keep_kernels(monkeypatch, tmp_path):
    said = []
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/proc/nowhere")
    assert cache_folder(("isa", "cpu", ""), said.append) is None and "set NUMBA_CACHE_DIR" in said[0]
    assert read_cached(None, "sweep", said.append) is None and write_cached(None, "sweep", None, said.append) is None
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    said.clear()
    assert Code([sweep], said.append).address["sweep"] and sum("cannot be kept" in text for text in said) == 1


def test_e13_two_first_runs_share_a_cache(tmp_path):
    script = "import sys; sys.path.insert(0, sys.argv[1]); import run; print(run.Code([run.sweep], print).address['sweep'] > 0)"
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    both = [
        subprocess.Popen([sys.executable, "-c", script, ROOT], env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    assert [p.communicate()[0].splitlines()[-1] for p in both] == ["True", "True"]
    done = subprocess.run([sys.executable, "-c", script, ROOT], env=env, capture_output=True, text=True)
    assert done.stdout == "True\n"


def test_numbas_switches_for_debugging_change_nothing():
    """Kernels are made of words that are instructions and take addresses, not arrays: there is no Python to run in their place,
    and no index that numba could check. What stands in for both is below."""
    script = "import sys; sys.path.insert(0, sys.argv[1]); from run import *; "
    script += "print(len(compile_kernel(sweep, host().machine)[1]))"
    command, sizes = [sys.executable, "-c", script, ROOT], []
    switches = ({}, {"NUMBA_DISABLE_JIT": "1"}, {"NUMBA_BOUNDSCHECK": "1"})
    every = [subprocess.Popen(command, env={**os.environ, **on}, stdout=subprocess.PIPE, text=True) for on in switches]
    for process in every:
        sizes.append(int(process.communicate()[0]))
    assert sizes[0] == sizes[1] == sizes[2] > 500


def test_kernels_without_room(small_disk):
    """E4: kernels that cannot be kept are compiled and used; what is kept is whole."""
    folder, leave = small_disk
    (folder / "c").mkdir(mode=0o700)
    leave(0)
    said = []
    write_cached(folder / "c", "norm", ("symbol", b"code" * 9999), said.append)
    assert "kernel norm cannot be kept" in said[0] and list((folder / "c").iterdir()) == []
