"""A folder for the examples, and a shell in it."""

import os
import shutil
import subprocess
import sys

from helpers.places import ROOT


def two_files(folder, model):
    """run.py and model.bin in a folder, where python is this one."""
    shutil.copy(ROOT / "run.py", folder)
    shutil.copy(model, folder / "model.bin")
    (folder / "bin").mkdir()
    put(folder / "bin" / "python", f'exec "{sys.executable}" "$@"')


def put(path, line):
    """A program of one line of the shell."""
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def shell(folder, *command, **env):
    path = f"{folder}/bin:{os.environ['PATH']}"
    settings = {**os.environ, "PATH": path, "TWOFILE": str(folder), **env}
    return subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, timeout=300)
