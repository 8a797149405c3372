"""Clients in environments of their own."""

import os
import shutil
import subprocess
import sys

import pytest

from helpers.places import ROOT

PROGRAMS = ROOT / "tests" / "serve" / "clients"
LIGHT = "openai", "anthropic", "ollama"
PACKAGES = {"langchain": "langchain-openai", "lm_eval": "lm_eval[api]"}  # else they are called as their programs
ASKED = "TWOFILE_TEST_CLIENTS"
SECONDS = 300  # for an installation
QUIET = {  # what a client would ask others for
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "NO_PROXY": "127.0.0.1",
}


class Room:
    """Environments with clients in them, in a folder, which is removed in the end: they are many megabytes."""

    def __init__(self, folder):
        self.folder, self.refused = folder, {}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        shutil.rmtree(self.folder)

    def python(self, *packages):
        """The Python that has packages, which are installed if they are not yet; or skip."""
        venv = self.folder / packages[0].partition("[")[0]
        if not venv.exists():
            self.refused[venv] = installed(venv, packages)
        if self.refused[venv]:
            pytest.skip(self.refused[venv])
        return venv / "bin" / "python"

    def client(self, name):
        """The Python that has a client."""
        if name in LIGHT:
            return self.python(*LIGHT)
        if not os.environ.get(ASKED):
            pytest.skip(f"{name} is installed and tried if {ASKED}=1 is set: it brings much with it")
        return self.python(PACKAGES.get(name, name))

    def run(self, name, *args):
        """Let a client's program run -> what it printed."""
        return self.call([self.client(name), PROGRAMS / f"with_{name}.py", *args])

    def call(self, command, code=0):
        home = {"HOME": str(self.folder), "HF_HOME": str(self.folder), "LLM_USER_PATH": str(self.folder)}
        env = {**os.environ, **QUIET, **home}
        done = subprocess.run(list(map(str, command)), env=env, cwd=self.folder, capture_output=True, text=True, timeout=550)
        assert done.returncode == code, done.stdout[-2000:] + done.stderr[-4000:]
        print(done.stdout)
        return done.stdout


def installed(venv, packages):
    """Make an environment with packages -> None, or why there is none."""
    pip = [venv / "bin" / "python", "-m", "pip", "install", "-q", "--retries", "1", "--disable-pip-version-check", *packages]
    try:
        subprocess.run([sys.executable, "-m", "venv", venv], check=True, capture_output=True, timeout=SECONDS)
        subprocess.run(pip, check=True, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return f"pip install {' '.join(packages)} takes longer than {SECONDS} s here"
    except subprocess.CalledProcessError as e:
        last = (e.stderr or str(e)).strip().splitlines()[-1]
        return f"pip install {' '.join(packages)} failed: {last[:200]}"
