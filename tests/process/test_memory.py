"""run.py --memory as a process: answers name their sources, folders of all kinds, kills, two at once."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from helpers.models import make_talker
from helpers.places import ROOT
from helpers.process import call, refused, start
from helpers.terminal import Terminal

SOURCE = 'sources: [1] "boats.md", line 3, "Boats"'


@pytest.fixture(scope="module")
def talker(tmp_path_factory):
    """A model that talks, with room for passages."""
    return make_talker(tmp_path_factory.mktemp("wide") / "model.bin", max_ctx=8000)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "boats.md").write_text("\n\n# Boats\n\nThe ferry leaves at nine.\n")
    return tmp_path / "texts"


def asked(model, folder, question="When does the ferry leave?", *more, **env):
    return call(model, "--memory", folder, "-p", question, "-n", 8, "-s", 3, *more, **env)


def test_an_answer_and_its_sources(talker, folder):
    """The text alone on stdout; sources before the stats; none with -q; in JSON as objects."""
    done = asked(talker, folder)
    (first, last) = done.stderr.decode().splitlines()[-2:]
    assert done.returncode == 0 and first == SOURCE and last.startswith("prompt ")
    without = call(talker, "-p", "When does the ferry leave?", "-n", 8, "-s", 3)
    assert b"sources" not in without.stderr and without.stdout != done.stdout
    quiet = asked(talker, folder, "When does the ferry leave?", "-q")
    assert quiet.stdout == done.stdout and quiet.stderr == b""
    value = json.loads(asked(talker, folder, "ferry", "--json").stdout)
    (source,) = value["sources"]
    assert source["file"] == "boats.md" and source["line"] == 3 and source["text"] == "# Boats\n\nThe ferry leaves at nine."
    assert json.loads(asked(talker, folder, "ferry", "--jsonl").stdout.splitlines()[-1])["sources"] == [source]
    assert asked(talker, folder, "zebra").stderr.count(b"sources") == 0
    chat = call(talker, "--chat", "--memory", folder, "-n", 8, "-s", 3, stdin=b"When does the ferry leave?")
    assert chat.stdout == done.stdout and SOURCE.encode() in chat.stderr


def test_in_a_chat_passages_come_and_go(talker, folder):
    (folder / "trains.md").write_text("The train runs at noon.")
    t = Terminal(talker, "-s", "7", "-n", "12", "--memory", folder)
    t.until(r"> $")
    assert "nothing is paged in" in t.say("/context")
    assert f"\n({SOURCE})\n" in t.say("When does the ferry leave?")
    assert t.say("/context") == '[1] "boats.md", line 3, "Boats"\n# Boats\n\nThe ferry leaves at nine.\n\n'
    assert '(sources: [1] "trains.md", line 1)\n' in t.say("How fast, old and blue are trains?")
    assert "ferry" not in t.say("/context")
    (folder / "boats.md").write_text("The ferry was sold.\x1b[31m")
    t.say("Which old blue ferry?")
    assert '"boats.md", line 1\nThe ferry was sold.\\x1b[31m\n' in t.say("/context")
    kept = folder.parent / "kept.json"
    t.say(f"/save {kept}")
    assert [m["content"] for m in json.loads(kept.read_text())][::2][0] == "When does the ferry leave?"
    os.write(t.fd, b"/exit\n")
    assert t.leave() == 0
    t = Terminal(talker)
    t.until(r"> $")
    assert "expected --memory FOLDER" in t.say("/context")
    t.process.kill()
    t.process.wait()


def test_folders_that_are_none(talker, tiny, folder, tmp_path):
    refused(asked(talker, tmp_path / "none"), "--memory", "cannot be read", "expected a folder of texts", "name one")
    refused(asked(talker, folder / "boats.md"), "--memory", "is no folder", "expected a folder of texts", "name one")
    refused(asked(talker, folder, "x", "--raw"), "--memory", "--raw", "leave one out", code=2)
    refused(call(talker, "--memory", folder, "-p", "x", "--score"), "--memory does nothing with --score", code=2)
    refused(asked(tiny, folder), "without a chat template", "expected one to chat")
    (tmp_path / "empty").mkdir()
    done = asked(talker, tmp_path / "empty")
    assert done.returncode == 0 and b"sources" not in done.stderr and done.stdout


def test_what_is_left_out_is_said_in_a_line(talker, folder, tmp_path):
    (tmp_path / "secret.md").write_text("The ferry is a secret.")
    (folder / "link.md").symlink_to(tmp_path / "secret.md")
    (folder / "up").symlink_to(tmp_path)
    (folder / "a.bin").write_bytes(bytes(range(256)))
    os.mkfifo(folder / "pipe")
    (folder / "new\nline \x1b[31m.md").write_text("A raft, and Ignore that.")
    with open(folder / "huge.txt", "wb") as f:
        f.truncate((64 << 20) + 1)
    done = asked(talker, folder, "ferry raft")
    err = done.stderr.decode()
    said = "left out: link.md, up (links); pipe (no files); a.bin (no text); huge.txt (over 64 MiB)"
    assert done.returncode == 0 and f"{folder}: {said}\n" in err and "secret" not in err
    assert '"new\\\\nline \\\\x1b[31m.md", line 1' in err and not re.search("[\x00-\x09\x0b-\x1f]", err)


def test_texts_in_other_encodings(talker, tmp_path):
    for name, raw in {
        "a": "die F\u00e4hre".encode("utf-16"),
        "b": b"\xef\xbb\xbfdie F\xc3\xa4hre",
        "c": b"die Fahre \xfc und dies",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.md").write_bytes(raw)
        done = asked(talker, tmp_path / name, "F\u00e4hre", "--json", LANG="C", LC_ALL="C")
        (source,) = json.loads(done.stdout)["sources"]
        assert source["text"] in ("die F\u00e4hre", "die Fahre \ufffd und dies"), name


def test_a_name_in_a_plain_locale(talker, folder):
    (folder / "F\u00e4hre.md").write_text("a raft")
    done = asked(talker, folder, "raft", LANG="C", LC_ALL="C")
    assert done.returncode == 0 and "F\u00e4hre.md" in done.stderr.decode()


def test_invisible_characters_are_counted(talker, folder):
    """As in prompts; with --clean they are gone."""
    (folder / "boats.md").write_text("The fer\u200bry\U000e0041 ferry.")
    assert b"2 invisible characters in the prompt (1 tag, 1 zero-width)" in asked(talker, folder).stderr
    done = asked(talker, folder, "ferry", "--clean", "--json")
    assert b"taken out" in done.stderr and json.loads(done.stdout)["sources"][0]["text"] == "The ferry ferry."


@pytest.mark.parametrize("question", ["???", '"', "AND OR NOT NEAR(", "ferry* ^ : {a b}: (", "\u202e\u0301"])
def test_odd_questions(talker, folder, question):
    done = asked(talker, folder, question)
    assert done.returncode == 0 and done.stdout


def test_a_question_of_a_megabyte_and_one_with_nul(talker, folder):
    long = call(talker, "--memory", folder, "-n", 8, stdin=b"ferry " * 180_000)
    refused(long, "prompt", "tokens", "expected", "shorten it")
    assert call(talker, "--memory", folder, "-n", 8, stdin=b"the fer\0ry leaves").returncode == 0


def many(folder, n=250):
    for i in range(n):
        (folder / f"{i}.md").write_text(f"raft{i}\n\n" + f"word{i} other " * 1500)


def test_killed_while_it_reads_and_then_again(talker, folder):
    many(folder)
    for wait in (0.9, 1.2, 1.6):
        process = start(talker, "--memory", folder, "-p", "raft7", "-n", 8)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = asked(talker, folder, "raft249")
    assert '"249.md", line 1' in done.stderr.decode(), done.stderr


def test_a_context_without_room_is_said(folder):
    """The bundled model's is of 512 tokens: no passage fits into a quarter of it."""
    (folder / "boats.md").write_text("The ferry leaves at nine. " * 40)
    err = asked(ROOT / "model.bin", folder).stderr.decode()
    assert "no passage fits, expected room for one in 128 tokens of a context of 512" in err and "sources" not in err


def test_two_at_once(talker, folder):
    many(folder, 100)
    both = [start(talker, "--memory", folder, "-p", f"raft{i}", "-n", 8) for i in (7, 77, 99)]
    for i, process in zip((7, 77, 99), both):
        _, err = process.communicate(timeout=100)
        assert process.returncode == 0 and f'"{i}.md", line 1' in err.decode(), err


def test_ctrl_c_while_it_reads(talker, folder):
    many(folder, 400)
    process = start(talker, "--memory", folder, "-p", "raft7", "-n", 8)
    assert b"memory: reading 401 files" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and b"Traceback" not in err and out == b""
    assert '"399.md", line 1' in asked(talker, folder, "raft399").stderr.decode()


def test_a_folder_that_goes_in_a_chat(talker, folder):
    t = Terminal(talker, "-n", "12", "--memory", folder)
    t.until(r"> $")
    assert SOURCE in t.say("When does the ferry leave?")
    shutil.rmtree(folder)
    assert "sources" not in t.say("When does the ferry leave?")
    t.process.kill()
    t.process.wait()


def test_read_only(talker, folder):
    os.chmod(folder, 0o500)
    assert SOURCE.encode() in asked(talker, folder).stderr and os.listdir(folder) == ["boats.md"]
    os.chmod(folder, 0o700)


def test_as_a_library_in_one_file(folder):
    """run.py alone has Memory too."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); from run import Memory; "
    code += "print(Memory(sys.argv[2], None).find('ferry')[0].file)"
    done = subprocess.run([sys.executable, "-c", code, ROOT, folder], capture_output=True, text=True)
    assert done.stdout == "boats.md\n", done.stderr
