"""The examples that run the program for others: a GitHub Action, a service of systemd, a container, a line of cron. Their
commands are run as they stand, in a folder with the two files; only what needs a network is not."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys

import pytest

from helpers.examples import put, shell, two_files
from helpers.places import ROOT
from helpers.process import call
from helpers.server import started
from twofile.model import Model
from twofile.serve.main import PACKAGES, parsed_args

EXAMPLES = ROOT / "examples"
KERNELS = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")


@pytest.fixture
def folder(talker, tmp_path):
    """The two files, and a `twofile` as if it were installed."""
    two_files(tmp_path, talker)
    put(tmp_path / "bin" / "twofile", f'PYTHONPATH="{ROOT}" exec "{sys.executable}" -m twofile "$@"')
    return tmp_path


def needed(*tools):
    for tool in tools:
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# a GitHub Action


@pytest.fixture(scope="module")
def job():
    yaml = pytest.importorskip("yaml", reason="needs PyYAML: pip install pyyaml")
    workflow = yaml.safe_load((EXAMPLES / "github-action.yml").read_text())
    assert workflow.keys() == {"name", True, "permissions", "jobs"}  # `on` is a yes in YAML 1.1
    assert workflow["permissions"] == {"contents": "read"} and workflow[True].keys() == {"pull_request"}
    (job,) = workflow["jobs"].values()
    return job


def test_action_is_made_as_github_wants_it(job):
    """Each step uses an action of a version, or runs lines into which nothing is pasted that others may have written."""
    assert job["runs-on"] and job["timeout-minutes"] and job["defaults"]["run"]["shell"] == "bash"
    for step in job["steps"]:
        assert step.keys() <= {"name", "uses", "with", "run"} and ("uses" in step) != ("run" in step)
        assert re.fullmatch(r"actions/[\w-]+@v\d+", step.get("uses", "actions/a@v1"))
        assert "${{" not in step.get("run", "")
    kept = [step["with"]["path"].split() for step in job["steps"] if step.get("uses", "").startswith("actions/cache")]
    workspace = "${{ github.workspace }}/"
    assert kept == [[job["env"][name].removeprefix(workspace) for name in ("MODEL", "NUMBA_CACHE_DIR")]]


def test_action_runs(job, folder):
    """On a pull request of two commits; names of files are anything, and reach no shell."""
    needed("git")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    odd = "a $(touch owned)`touch owned`.md"
    (folder / "kept.txt").write_text("the hen\n")
    for command in (["init", "-q"], ["add", "kept.txt"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    base = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True).stdout.strip()
    for name, text in ((odd, "the fox"), ("empty.md", "")):
        (folder / name).write_text(text)
        subprocess.run([*git, "add", name], cwd=folder, check=True)
        subprocess.run([*git, "commit", "-qm", f"the {name[:1]}"], cwd=folder, check=True)
    runs = {step["run"] for step in job["steps"] if "run" in step}
    (install,) = [run for run in runs if run.startswith("pip ")]
    assert re.fullmatch(r'pip install "\.twofile/source\[(\w+)\]"', install)
    env = {"BASE": base, "MODEL": str(ROOT / "model.bin"), "GITHUB_STEP_SUMMARY": str(folder / "summary.md")}
    for step in job["steps"]:
        if "run" in step and step["run"] != install:
            done = shell(folder, "bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"], **env)
            assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    told = (folder / "summary.md").read_text()
    m, quoted = Model(ROOT / "model.bin", verbose=False), []
    for said, about in (("the e\nthe a", "these commits do"), ("the fox", "this text is about")):
        asked = f"{said}\nSay in one sentence what {about}."
        text = m.generate(m.encode_chat([{"role": "user", "content": asked}]), max_tokens=80, temperature=0)
        quoted.append("".join(f"> {line}\n" for line in text.removesuffix("\n").split("\n")))
    (title,) = re.findall(r"^### `(.*\.md)`$", told, re.M)
    assert told == f"### The commits\n\n{quoted[0]}\n### `{title}`\n\n{quoted[1]}"
    assert shlex.split(title) == [odd] and not (folder / "owned").exists()
    maker = re.search(r"python \.twofile/source/(\S+) -o", "".join(runs))[1]
    assert (ROOT / maker).exists()


# a service of systemd


def unit():
    """[(key, value)] of the service."""
    lines = (EXAMPLES / "twofile.service").read_text().splitlines()
    return [tuple(line.split("=", 1)) for line in lines if line[:1] not in ("", "#", "[")]


def test_service_is_one_for_systemd(folder):
    needed("systemd-analyze")
    text = (EXAMPLES / "twofile.service").read_text()
    (folder / "twofile.service").write_text(text.replace("/opt/twofile/bin", str(folder / "bin")))
    done = shell(folder, "systemd-analyze", "verify", folder / "twofile.service")
    if "SYSTEMD_UNIT_PATH" in done.stderr or "Failed to" in done.stderr:
        pytest.skip("systemd-analyze cannot work here")
    assert done.returncode == 0 and "twofile.service" not in done.stderr, done.stderr


def test_service_may_write_where_it_does():
    settings = dict(unit())
    assert settings["DynamicUser"] == settings["NoNewPrivileges"] == "yes" and settings["ProtectSystem"] == "strict"
    state, cache = (f"/var/{name}/{settings[key]}" for name, key in (("lib", "StateDirectory"), ("cache", "CacheDirectory")))
    assert f" --cache-dir {state} " in settings["ExecStart"] and settings["Environment"] == f"NUMBA_CACHE_DIR={cache}"
    assert float(re.search(r"--grace (\d+)", settings["ExecStart"])[1]) < float(settings["TimeoutStopSec"])


def test_service_starts(folder):
    """What tells that it is ready, says so then and not before; so does what tells that a container is well."""
    needed("curl")
    for package in PACKAGES:
        pytest.importorskip(package, reason="needs a server: pip install -r requirements-serve.txt")
    settings, port = dict(unit()), str(free_port())
    (ready,) = re.fullmatch(r"/bin/sh -c '([^']*)'", settings["ExecStartPost"].replace("8080", port)).groups()
    ready = ["/bin/sh", "-c", ready.replace("$$", "$")]
    well = json.loads(dict(dockerfile())["HEALTHCHECK"].partition(" CMD ")[2].replace("8080", port))
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert [shell(folder, *line, MAINPID=str(gone.pid)).returncode for line in (ready, well)] == [1, 1]
    start = settings["ExecStart"].replace("8080", port).replace("/opt/twofile/bin", f"{folder}/bin")
    start = start.replace("/opt/twofile", str(folder)).replace("/var/lib", str(folder))
    with started(start.split(), r"^(twofile): http://127.0.0.1:(\d+)$") as server:
        assert server.port == int(port) and re.search(r"\[Service\]\nType=exec", (EXAMPLES / "twofile.service").read_text())
        assert [shell(folder, *line, MAINPID=str(server.pid)).returncode for line in (ready, well)] == [0, 0]


# a container


def dockerfile():
    """[(instruction, rest)]"""
    text = re.sub(r"^#.*\n", "", (EXAMPLES / "Dockerfile").read_text(), flags=re.M).replace("\\\n", "")
    return [tuple(line.split(" ", 1)) for line in text.splitlines() if line]


def test_container_is_made_of_what_is_there(folder, monkeypatch):
    """All that a wheel is built from is copied; what is run at the build runs, not as root; what it starts as is a command line
    of the program, which lets nobody in without a key."""
    copied = [rest.split() for name, rest in dockerfile() if name == "COPY"]
    sources = {name for *names, _ in copied for name in names}
    wanted = {"pyproject.toml", "setup.py", "README.md", "LICENSE", "model.bin", "tokenizer.bin", "docs/twofile.1", "twofile"}
    assert sources == wanted and all((ROOT / name).exists() for name in sources)
    assert {into for *_, into in copied} == {"/src/", "/src/docs/", "/src/twofile"}
    install, user, first = [rest for name, rest in dockerfile() if name == "RUN"]
    assert install == 'pip install --no-cache-dir "/src[serve]"' and dict(dockerfile())["USER"] in user.split()
    names = [name for name, _ in dockerfile()]
    assert names.index("USER") < len(names) - 1 - names[::-1].index("RUN") < names.index("ENTRYPOINT")
    done = shell(folder, "sh", "-c", first)
    assert done.returncode == 0 and done.stdout, done.stderr
    told = dict(dockerfile())
    program, command, *words = [word for name in ("ENTRYPOINT", "CMD") for word in json.loads(told[name])]
    assert (program, command) == ("twofile", "serve")
    monkeypatch.delenv("TWOFILE_API_KEY", raising=False)
    with pytest.raises(SystemExit):
        parsed_args(words)
    monkeypatch.setenv("TWOFILE_API_KEY", "a-long-key")
    asked = parsed_args(words)
    assert asked.host == "0.0.0.0" and str(asked.port) == told["EXPOSE"]


def test_container_is_built():
    """Where docker is: built, and run with nothing that can be written."""
    if not os.environ.get("TWOFILE_TEST_CLIENTS"):
        pytest.skip("takes minutes and a network: TWOFILE_TEST_CLIENTS=1")
    if not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.skip("no docker answers here")
    subprocess.run(["docker", "build", "-q", "-f", EXAMPLES / "Dockerfile", "-t", "twofile-test", ROOT], check=True)
    run = ["docker", "run", "--rm", "--read-only", "--network", "none", "twofile-test"]
    done = subprocess.run([*run, "-p", "Once upon a time", "-s", "1", "-q"], capture_output=True)
    assert done.stdout == call(ROOT / "model.bin", "-p", "Once upon a time", "-s", "1", "-q").stdout and not done.stderr


# a line of cron


def test_cron(folder):
    """By the shell and with what cron gives a job; a second one while the first is busy does nothing."""
    needed("flock")
    lines = [line for line in (EXAMPLES / "crontab").read_text().splitlines() if line and line[0] != "#"]
    settings = dict(line.split("=", 1) for line in lines[:-1])
    assert settings.keys() == {"TWOFILE", "NUMBA_CACHE_DIR"}  # cron expands nothing in these
    assert all(re.fullmatch(r"/[\w/]+", path) for path in settings.values())
    command = re.fullmatch(r"(?:[\d*,/-]+ ){5}(.*)", lines[-1])[1]
    assert not re.search(r"(?<!\\)%", command)
    command = command.replace(r"\%", "%")
    (folder / "requests.jsonl").write_text('"the fox"\n"the hen"\n')
    env = {"HOME": "/", "LOGNAME": "a", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
    job = ["env", "-i", *(f"{k}={v}" for k, v in env.items()), f"TWOFILE={folder}", f"NUMBA_CACHE_DIR={KERNELS}"]
    made = lambda: sorted(p.name for p in folder.glob("answers-*"))
    busy = subprocess.run(["flock", folder / "lock", *job, "/bin/sh", "-c", command], capture_output=True, text=True)
    assert busy.returncode == 1 and busy.stdout == busy.stderr == (folder / "log").read_text() == "" and not made()
    done = subprocess.run([*job, "/bin/sh", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == done.stderr == (folder / "log").read_text() == ""
    (name,) = made()
    rows = [json.loads(line) for line in (folder / name).read_text().splitlines()]
    m = Model(folder / "model.bin", verbose=False)
    assert re.fullmatch(r"answers-\d{4}-\d\d-\d\d\.jsonl", name) and len(rows) == 2
    ids = m.encode_chat([{"role": "user", "content": "the fox"}])
    assert rows[0]["text"] == m.generate(ids, seed=rows[0]["seed"])
