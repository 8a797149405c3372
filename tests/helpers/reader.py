"""tests/reader.c, compiled."""

import shutil
import subprocess

import pytest

from helpers.places import ROOT


def build_reader(folder):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        pytest.skip("no C compiler here")
    out = folder / "reader"
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-O1", "-g"]
    source = ROOT / "tests" / "reader.c"
    sanitised = [compiler, *flags, "-fsanitize=address,undefined", "-fno-sanitize-recover", source, "-o", out, "-lm"]
    if subprocess.run(sanitised, capture_output=True).returncode:
        subprocess.run([compiler, *flags, source, "-o", out, "-lm"], check=True)
    return out
