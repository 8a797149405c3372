"""The commands of a conversation, without its terminal."""

import contextlib
import json
import os
import re
import stat
import sys
from types import SimpleNamespace

import pytest

from helpers.places import ROOT
from twofile.calls import Tools
from twofile.compiler.kept import _top
from twofile.errors import ModelError
from twofile.front.commands import CHAT_HELP, Commands, path_before
from twofile.front.conversation import Conversation
from twofile.front.modes import parse_args
from twofile.front.setting import SETTABLE
from twofile.memory.paging import Paged
from twofile.model import Model
from twofile.sampler import RULES


class Said(Commands):
    """A conversation of a small model, and what is shown in it."""

    def __init__(self, path, *flags):
        self.seen = []
        args = parse_args([str(path), "-p", "x", "-s", "7", "-n", "8", *flags])
        usage = SimpleNamespace(offered=None, calls_in=lambda text: [], listed=lambda: "no tools\n")
        talk = Conversation(Model(path, verbose=False), args, self.seen.append, usage)
        super().__init__(talk, args, self.seen.append)

    def tells(self, line):
        """What a command shows, or is refused with."""
        self.seen.clear()
        try:
            assert self.command(line)
        except ModelError as e:
            return str(e)
        return "".join(self.seen)


@pytest.fixture
def said(talker):
    return Said(talker)


@pytest.fixture
def home(monkeypatch, tmp_path):
    """A home of its own, where kernels need not be compiled again."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(_top().parent))
    monkeypatch.setenv("HOME", str(tmp_path))


def contents(said):
    return [m["content"] for m in said.talk.messages]


def test_help_is_one_screen_and_tells_every_command(said):
    assert CHAT_HELP.count("\n") <= 24 and max(map(len, CHAT_HELP.split("\n"))) <= 80
    assert all(re.search(f"^/{name}[ ,]", CHAT_HELP, re.M) for name in said.names)
    assert said.tells("/?") == said.tells("/help set") == CHAT_HELP


def test_the_document_tells_every_command_and_what_is_answered(said, tmp_path, monkeypatch):
    text = (ROOT / "docs" / "chat.md").read_text()
    rows = [line.split("|")[1] for line in text.split("## Commands")[1].split("##")[0].splitlines() if line[:3] == "| `"]
    assert {word for row in rows for word in re.findall("`/([a-z]+)", row)} == {*said.names, "reset"} - {"exit"}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("the hen")
    for line, answer in re.findall("^> (.*)\n([^>`].*)?", text.split("```\n> ")[1].join(["> ", ""]), re.M):
        assert said.tells(line).startswith(answer)


@pytest.mark.parametrize(
    "line, says",
    [
        ("/hlep", "/hlep is not a command; /help lists them"),
        ("/temp 1", "/temp is not a command; did you mean /set temp? /help lists them"),
        ("/sav", "/sav is not a command; did you mean /save? /help lists them"),
        ("/xyz\x1b[31m", "/xyz\\x1b[31m is not a command; /help lists them"),
        ("/", "/ is not a command; /help lists them"),
        ("/etc/hosts is", "/etc/hosts is not a command; /help lists them; // begins a message with a slash"),
        ("/save", "/save needs a file behind it"),
        ("/undo that", "/undo takes nothing behind it"),
        ("/Bye now", "/Bye takes nothing behind it"),
        ("/models", "/models is no command here; a conversation has one model"),
        ("/set num_ctx 4096", "/set: num_ctx is ollama's; the context is -c N"),
        ("/set parameter num_gpu 1", "/set: num_gpu is ollama's; everything runs on the processor"),
        ("/clear\nthat", "/clear takes nothing behind it"),
        ("/save a\nb", "/save takes one line; several may stand behind /system, /file"),
        ("/set stop a\nb", "/set takes one line"),
        ("/undo", "/undo: there is no message to take back"),
        ("/regen", "/regen: there is no answer yet"),
        ("/set tmp 3", "/set: 'tmp' is no setting; did you mean temp? /set lists them"),
        ("/set temp warm", "/set: temp is 'warm', expected a number"),
        ("/set temp nan", "/set: temp is 'nan', expected 0 to 100"),
        ("/set top-k 1.5", "/set: top-k is '1.5', expected a whole number"),
        ("/set n -2", "/set: n-predict is '-2', expected -1 (until the end), 0 (the prompt only) or more"),
        ("/set ignore-eos maybe", "/set: ignore-eos is 'maybe', expected on or off"),
        ("/set stop 'x", '"\'x" lacks a closing quote'),
        ("/set logit-bias 5", "logit-bias is '5', expected ID+NUMBER or ID-NUMBER; give such, as 15043+1.5"),
        ("/set logit-bias 999999+1", "logit_bias: a key is 999999, expected a token's id, 0 to "),
    ],
)
def test_what_is_wrong_is_told_and_changes_nothing(said, line, says):
    said.message("the hen")
    if line in ("/undo", "/regen"):
        said.command("/clear")
    before, options = contents(said), json.dumps(said.args.options)
    assert said.tells(line).startswith(says) and "\n" not in said.tells(line)
    assert contents(said) == before and json.dumps(said.args.options) == options and said.args.n_predict == 8


def test_every_flag_of_sampling_can_be_set_by_its_names(said):
    for rule in RULES:
        least = f"{rule.kind(max(rule.least, 1))}"
        for name in (rule.name, rule.flag, rule.flag[2:], rule.name.replace("_", "-").upper()):
            assert said.tells(f"/set {name} {least}").startswith(f"{rule.flag[2:]} is {least}\n")
            assert said.args.options[rule.name] == rule.kind(least)
            assert "(default)" in said.tells(f"/set {name} default") and rule.name not in said.args.options
    assert said.tells("/set").count("\n") == len(SETTABLE) == len(RULES) + 5


def test_what_is_set_is_how_the_next_answer_is_written(said, talker):
    for line in (
        "temp = 0",
        "parameter top_k 3",
        "stop = 'a b' \"\\n\"",
        "max-tokens 5",
        "logit-bias 5-100 6+1",
        "seed 9",
        "ignore-eos on",
    ):
        assert " is " in said.tells(f"/set {line}")
    how = {"temperature": 0.0, "top_k": 3, "stop": ["a b", "\n"], "logit_bias": [(5, -100.0), (6, 1.0)], "ignore_eos": True}
    assert said.args.options == how and said.tells("/set temp") == "temp is 0.0\n"
    said.message("the fox")
    model = said.talk.model
    ids = model.encode_chat([{"role": "user", "content": "the fox"}])
    assert contents(said)[1] == model.generate(ids, max_tokens=5, seed=9, **how).strip()
    told = said.tells("/show")
    assert "temp 0.0, top-k 3" in told and "seed 9, n-predict 5, stop 'a b' '\\n', ignore-eos on\n" in told
    for name in ("temp", "top-k", "stop", "n", "logit-bias", "ignore-eos"):
        said.command(f"/set {name} default")
    assert said.args.options == {"stop": [], "ignore_eos": False, "logit_bias": []} and said.args.n_predict == -1


def test_the_default_seed_is_that_of_the_command_line(said):
    assert said.tells("/set seed 9") == "seed is 9\n" and said.tells("/set seed default") == "seed is 7\n"
    assert said.tells("/set seed -1") != "seed is 7\n" and said.tells("/set num_predict 3") == "n-predict is 3\n"


def test_an_empty_answer_is_told_and_takes_nothing_with_it(said):
    said.message("the hen")
    before = contents(said)
    said.command("/set n 0")
    said.seen.clear()
    said.message("and?")
    assert said.seen[-1] == "(no answer was written; your message is not kept)\n" and contents(said) == before
    assert said.tells("/regen").endswith("(no answer was written; what was there stays)\n") and contents(said) == before
    assert said.tells("/UNDO").startswith('took back "the hen"')


def test_a_command_may_have_several_lines_behind_it(said, tmp_path):
    """Where they can be told from a message: behind those that take a text."""
    (tmp_path / "my notes").write_text("the hen")
    said.tells("/system be\nkind")
    assert contents(said) == ["be\nkind"] and said.tells("/set system a\nb") and contents(said) == ["a\nb"]
    said.tells(f"/file {tmp_path}/my notes and?\nnow?")
    assert contents(said)[1] == "the hen\nand?\nnow?"
    said.tells(f"/file '{tmp_path}/my notes'\nso?")
    assert contents(said)[3] == "the hen\nso?"
    assert said.mistaken("/system a\nb") and said.mistaken("/file a\nb") and not said.mistaken("/systems a\nb")
    assert not said.mistaken("/system a") and not said.mistaken("/etc\nb")


def test_who_takes_the_room_is_named(talker):
    said = Said(talker, "-sys", "the fox " * 30)
    with pytest.raises(ModelError) as found:
        said.message("the hen " * 20)
    told = "the message has N tokens, and N fit beside the system message (N); nothing is forgotten for it; say it shorter"
    assert re.sub("[0-9]+", "N", str(found.value)) == told
    tool = {"name": "f", "description": "the fox " * 90, "parameters": {"type": "object", "properties": {}}, "strict": False}
    said.talk.usage.offered = Tools([tool])
    with pytest.raises(ModelError) as found:
        said.message("hi")
    told = "the system message, the tools and what stands around it take N tokens of a context of N; "
    assert re.sub("[0-9]+", "N", str(found.value)) == told + "say it shorter, or begin with fewer tools"


def test_show_tells_the_model_the_context_and_what_it_was_told(talker):
    said = Said(talker, "-sys", "be kind\n\x1b[31m")
    said.message("the fox")
    rows = said.tells("/show").split("\n")
    assert rows[0] == f"model     {talker}" and rows[2] == "messages  3"
    assert rows[3:5] == ["system    be kind", " " * 10 + "\\x1b[31m"] and rows[1].endswith(" of 200 tokens")


def test_undo_takes_the_last_turn_back(said):
    said.message("the hen")
    before = contents(said)
    said.message("the fox " * 9)
    assert said.tells("/undo") == f'took back "{"the fox " * 5}…" and its answer; messages left: 2\n'
    assert contents(said) == before
    assert said.tells("/reset") == "begun again\n" and said.talk.messages == []


@pytest.mark.parametrize("line", ["/undo", "/clear", "/set system be kind"])
def test_what_was_paged_in_goes_with_its_question(said, line):
    said.message("the hen")
    said.talk.recall.paged = Paged(("a passage",))
    said.tells(line)
    assert said.talk.recall.paged == Paged()


def test_system_and_clear_tell_what_they_did_and_set_knows_system(said):
    assert said.tells("/system be kind") == "begun again, with this system message\n"
    said.message("the hen")
    assert said.tells("/clear") == "begun again, with the same system message\n" and contents(said) == ["be kind"]
    assert said.tells("/set system be quick") and contents(said) == ["be quick"]
    assert is_too_long(said.tells("/system " + "the fox " * 60)) and contents(said) == ["be quick"]


def is_too_long(text):
    return text.startswith("the system message and what stands around it take ") and text.endswith("say it shorter")


def test_a_file_goes_before_a_question_or_the_next_message(said, tmp_path, home):
    (tmp_path / "my notes").write_bytes(b"\xef\xbb\xbfthe hen\n")
    assert said.tells(f"/file {tmp_path}/my notes and?") and contents(said)[0] == "the hen\nand?"
    assert said.tells("/file '~/my notes'") == f"{tmp_path}/my notes: 7 characters go before your next message\n"
    assert len(contents(said)) == 2
    said.message("so?")
    assert contents(said)[2] == "the hen\nso?"
    said.message("then?")
    assert contents(said)[4] == "then?"
    said.tells("/file ~/my notes")
    assert said.tells("/undo") == "took back what /file read\n"
    said.message("now?")
    assert contents(said)[-2] == "now?"


def test_files_that_cannot_be_taken_are_told(said, tmp_path):
    said.message("the hen")
    before = contents(said)
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"a\0b")
    (tmp_path / "long").write_text("the fox " * 60)
    os.mkfifo(tmp_path / "fifo")
    told = {"none": "not found", "empty": "is empty", "binary": "holds no text", "fifo": "not a regular file", "": "a folder"}
    for name, says in {**told, "long": "nothing is forgotten", "long why?": "nothing is forgotten"}.items():
        assert says in said.tells(f"/file {tmp_path}/{name}")
    assert "not found" in said.tells("/file -")  # not what is typed next
    assert contents(said) == before and said.files == []


@pytest.mark.parametrize(
    "text, found",
    [
        ("a b c", ("a", "b c")),
        ("my notes what is it", ("my notes", "what is it")),
        ("'my notes'", ("my notes", "")),
        ('"a b" c', ("a b", "c")),
        ("'a b", ("'a", "b")),
    ],
)
def test_a_path_and_the_question_behind_it(tmp_path, monkeypatch, text, found):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my notes").touch()
    assert path_before(text) == found


def test_edit_sends_what_the_editor_saves(said, tmp_path, monkeypatch):
    script = tmp_path / "editor.py"
    script.write_text("import sys\nopen(sys.argv[2], 'a').write(sys.argv[1])\n")
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"{sys.executable} {script} ' and'")
    assert said.tells("/edit").startswith("sent what was saved: 4 characters\n") and contents(said)[0] == " and"
    said.message("the hen")
    said.command("/undo")
    said.command("/edit")
    assert contents(said)[2] == "the hen and"
    for editor, says in {"true": "nothing is sent", "false": "ended with 1", "/no/such": "cannot be run"}.items():
        monkeypatch.setenv("EDITOR", editor)
        assert says in said.tells("/edit") and len(contents(said)) == 4


def test_save_and_load_tell_what_they_did(said, tmp_path, home):
    said.message("the hen")
    kept = contents(said)
    place = f"{tmp_path}/kept.json"
    assert said.tells("/save ~/kept.json") == f"saved 2 messages to {place}\n"
    assert said.tells(f"/save '{place}'") == f"saved 2 messages to {place}, instead of what was there\n"
    said.command("/clear")
    assert said.tells("/load ~/kept.json") == f"loaded 2 messages from {place}\n" and contents(said) == kept
    (tmp_path / "long.json").write_text(json.dumps([{"role": "system", "content": "the fox " * 60}]))
    assert is_too_long(said.tells("/load ~/long.json").removeprefix(f"{tmp_path}/long.json: ")) and contents(said) == kept
    turns = [{"role": "user", "content": "the fox " * 50}, {"role": "assistant", "content": "x"}]
    (tmp_path / "long.json").write_text(json.dumps(turns))
    assert said.tells("/load ~/long.json").startswith("loaded 2")
    assert "nothing is forgotten" in said.tells("/regen") and len(contents(said)) == 2
    said.message("the hen")  # the turn that is too long is forgotten, as the oldest
    assert contents(said)[0] == "the hen"


def test_tab_completes_commands_settings_and_paths(said, tmp_path, home):
    for name in ("a1", "a\x1b", ".hidden", "b"):
        (tmp_path / name).touch()
    (tmp_path / "a folder").mkdir()
    assert said.completions("/sa") == ["/save "] and said.completions("/un") == ["/undo"]
    assert said.completions("/set typ") == ["/set typical ", "/set typical-p "]
    assert said.completions("/save ~/a") == ["/save ~/a folder/", "/save ~/a1"]
    assert said.completions(f"/file {tmp_path}/") == [f"/file {tmp_path}/{name}" for name in ("a folder/", "a1", "b")]
    assert said.completions("/load ~/.") == ["/load ~/.hidden"]
    assert said.completions("/undo x") == said.completions("/nothing ") == said.completions("/load /no/such/") == []


def test_save_takes_the_place_of_conversations_only(said, tmp_path, monkeypatch):
    """Of no device, pipe, folder or other text; through a link; and who could read a file still can, nobody else."""
    monkeypatch.chdir(tmp_path)
    said.message("the hen")
    os.mkfifo("fifo")
    os.mkdir("folder")
    (tmp_path / "notes.txt").write_text("my notes")
    (tmp_path / "list.json").write_text('[{"a": 1}]')
    if not os.geteuid():
        with contextlib.suppress(PermissionError):  # a container may forbid it
            os.mknod("device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    before = {name: os.lstat(name)[:3] for name in os.listdir()}
    for name in before:
        told = said.tells(f"/save {name}")
        assert ("would be lost" if name in ("notes.txt", "list.json") else "not a regular file") in told and "\n" not in told
    assert {name: os.lstat(name)[:3] for name in os.listdir()} == before and (tmp_path / "notes.txt").read_text() == "my notes"
    assert said.tells("/save new.json").startswith("saved 2") and os.stat("new.json").st_mode & 0o777 == 0o600
    os.chmod("new.json", 0o640)
    os.symlink("new.json", "link")
    said.message("and?")
    assert "instead" in said.tells("/save link") and os.path.islink("link")
    assert (
        os.stat("new.json").st_mode & 0o777 == 0o640 and json.loads((tmp_path / "new.json").read_text()) == said.talk.messages
    )
    os.symlink("later.json", "dangling")
    assert said.tells("/save dangling").startswith("saved 4") and os.path.islink("dangling") and os.path.exists("later.json")


def test_what_other_programs_kept_is_taken_as_it_is_meant(said, tmp_path):
    """A content of parts is its texts, a developer a system; and every command goes on with that."""
    parts = lambda *texts: [{"type": "text", "text": text} for text in texts]
    roles = zip(
        ("developer", "user", "assistant", "user", "assistant"), (parts("be kind"), parts("the", "fox"), "x", parts("hen"), "y")
    )
    (tmp_path / "parts.json").write_text(json.dumps([{"role": role, "content": content} for role, content in roles]))
    assert said.tells(f"/load {tmp_path}/parts.json").startswith("loaded 5")
    assert said.talk.system == "be kind" and contents(said)[1] == "the\nfox" and "be kind" in said.tells("/show")
    assert said.tells("/undo") == 'took back "hen" and its answer; messages left: 3\n'
    said.talk.usage.show = said.seen.append
    assert isinstance(said.talk.last_word(), str)
    for n in range(9):
        said.message(f"the fox {n} " * 3)
    assert contents(said)[0] == "be kind" and len(contents(said)) < 15  # the oldest turns are forgotten, that is not
    assert "same system message" in said.tells("/clear") and contents(said) == ["be kind"]
    for content in ([{"type": "image_url"}], 5, [[]], None):
        (tmp_path / "parts.json").write_text(json.dumps([{"role": "user", "content": content}]))
        told = said.tells(f"/load {tmp_path}/parts.json")
        assert told.startswith(f"{tmp_path}/parts.json: messages: ") and "\n" not in told and contents(said) == ["be kind"]
