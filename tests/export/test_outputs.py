"""What an export writes, and what it leaves alone."""

import errno
import os
import struct
from types import SimpleNamespace

import pytest

from helpers.checkpoints import SHAPE, convert, folder, llama2c_file, weights
from helpers.places import ROOT, shared
from helpers.rooms import patch
from twofile.export import convert as export_room
from twofile.export import outputs as outputs_room
from twofile.export.main import main
from twofile.export.write import metadata
from twofile.model import Model
from twofile.tokenizer.tokenizer import Tokenizer


def test_x9_names_are_guarded(tmp_path, capsys):
    source, out = llama2c_file(tmp_path / "a.bin", weights()), tmp_path / "m.bin"
    assert main([str(source), "-o", str(out), "--tokenizer", "none"]) == 0
    before = out.read_bytes()
    assert main([str(source), "-o", str(out), "--tokenizer", "none"]) == 1
    assert "exists already" in capsys.readouterr().err and out.read_bytes() == before
    assert main([str(source), "-o", str(source), "--tokenizer", "none", "--overwrite"]) == 1
    assert "is the source itself" in capsys.readouterr().err
    assert main([str(source), "-o", str(tmp_path / "no" / "m.bin"), "--tokenizer", "none"]) == 1
    assert "folder does not exist" in capsys.readouterr().err


def test_x10_a_full_disk_leaves_the_old_file(tmp_path, capsys, monkeypatch):
    source, out = llama2c_file(tmp_path / "a.bin", weights()), tmp_path / "m.bin"
    assert convert(source, out) == 0
    before = out.read_bytes()
    real = metadata

    def full(*args):
        full.count += 1
        if full.count == 2:
            raise OSError(28, "No space left on device")
        return real(*args)

    full.count = 0
    patch(monkeypatch, "metadata", full)
    assert convert(source, out, "--type", "q4_0") == 1
    assert "No space left" in capsys.readouterr().err and out.read_bytes() == before and not list(tmp_path.glob("*.tmp*"))


@pytest.mark.parametrize("how", ["open", "aside"])
def test_a_signal_while_a_file_is_opened_leaves_none(how, tmp_path, monkeypatch):
    """E8: it may come when the file is there, and nobody has it yet."""

    def signalled(path):
        outputs_room.temporary_of(path).write_bytes(b"")
        raise SystemExit(143)

    monkeypatch.setattr(outputs_room, "opened", signalled)
    with pytest.raises(SystemExit), outputs_room.Outputs(False) as outputs:
        getattr(outputs, how)(tmp_path / "m.bin")
    assert list(tmp_path.iterdir()) == []


def test_same_source_same_bytes(tmp_path):
    source = llama2c_file(tmp_path / "a.bin", weights())
    for name in ("one", "two"):
        assert convert(source, tmp_path / name) == 0
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_tokenizer_only(tmp_path, capsys):
    """Of a tokenizer's own file and of a folder the same bytes; of what has none, a message and no file."""
    source = shared("checkpoints/tinystories-656k")
    one, two = tmp_path / "one.bin", tmp_path / "two.bin"
    assert main([str(source), "--tokenizer-only", "-o", str(one)]) == 0
    assert main([str(source / "tokenizer.json"), "--tokenizer-only", "-o", str(two)]) == 0
    assert Tokenizer(one).pieces == Tokenizer(two).pieces and Tokenizer(one).encode("Once upon a time")
    tok512 = shared("checkpoints/stories260K/tok512.bin")
    assert main([str(tok512), "--tokenizer-only", "-o", str(tmp_path / "t.bin")]) == 0
    assert Tokenizer(tmp_path / "t.bin").n_vocab == 512
    capsys.readouterr()
    for wrong in (tmp_path, tmp_path / "none.json", ROOT / "README.md"):
        assert main([str(wrong), "--tokenizer-only", "-o", str(tmp_path / "x.bin")]) == 1
        err = capsys.readouterr().err
        assert err.startswith("export.py: error: ") and "Traceback" not in err and not (tmp_path / "x.bin").exists()
    assert main([str(tok512), "--tokenizer-only", "-o", str(one)]) == 1 and "exists already" in capsys.readouterr().err


# one file is the model


def tokenizer_file(path, n=SHAPE["vocab"]):
    """llama2.c's form of a tokenizer of single letters."""
    letters = [b"<unk>", b"<s>", b"</s>"] + [bytes([32 + i % 95, 97 + i // 95]) for i in range(n - 3)]
    path.write_bytes(struct.pack("<I", 9) + b"".join(struct.pack("<fI", -i, len(p)) + p for i, p in enumerate(letters)))
    return path


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current folder: a checkpoint in it, and its tokenizer."""
    monkeypatch.chdir(tmp_path)
    llama2c_file(tmp_path / "a.bin", weights())
    tokenizer_file(tmp_path / "tok93.bin")
    return tmp_path


def names(place):
    return {p.name: p.read_bytes() for p in place.iterdir() if p.is_file()}


def last(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_the_tokenizer_goes_inside_or_where_one_says(place, capsys):
    """By default, and with the flag that once asked for it, one file; with --tokenizer-out two; the same tokenizer."""
    there = names(place)
    for options in ([], ["--embed-tokenizer"]):
        assert main(["a.bin", "-o", "m.bin", "--overwrite", *options]) == 0
        assert names(place).keys() - there.keys() == {"m.bin"} and {k: names(place)[k] for k in there} == there
    inside = Model("m.bin", verbose=False)
    assert last(capsys) == 'export.py: next: python run.py m.bin -p "Once upon a time"'
    assert main(["a.bin", "-o", "n.bin", "--tokenizer-out", "n.tok"]) == 0
    assert last(capsys).startswith("export.py: next: python run.py n.bin -z n.tok ")
    assert names(place).keys() - there.keys() == {"m.bin", "n.bin", "n.tok"}
    apart = Model("n.bin", "n.tok", verbose=False)
    assert inside.tokenizer.sha256 == apart.tokenizer.sha256 and inside.tokenizer.encode("!a") == apart.tokenizer.encode("!a")
    assert Tokenizer("n.tok").n_vocab == 93 and "tokenizer" not in apart.file.tensors


def test_the_bundled_pair_is_made_with_tokenizer_out(place):
    """run.py finds it beside; both are replaced where both are named."""
    for _ in range(2):
        args = ["a.bin", "-o", "model.bin", "--tokenizer-out", "tokenizer.bin", "--tokenizer", "tok93.bin", "--overwrite"]
        assert main(args) == 0
        assert Model("model.bin", verbose=False).tokenizer.n_vocab == 93


def test_a_link_stays_one_and_who_could_read_a_file_still_can(place):
    (place / "far").mkdir()
    (place / "link.bin").symlink_to(place / "far" / "m.bin")
    for _ in range(2):
        assert main(["a.bin", "-o", "link.bin", "--tokenizer", "none", "--overwrite"]) == 0
        assert (place / "link.bin").is_symlink() and os.listdir(place / "far") == ["m.bin"]
        (place / "far" / "m.bin").chmod(0o600)
    assert main(["a.bin", "-o", "link.bin", "--tokenizer", "none", "--overwrite"]) == 0
    assert (place / "far" / "m.bin").stat().st_mode & 0o777 == 0o600


def test_a_finished_tokenizer_beside_a_source_is_somebody_elses(place, capsys):
    """In the project's own folder lies the bundled pair's, which would fit any larger model."""
    (place / "tok93.bin").rename(place / "tokenizer.bin")
    assert main(["a.bin", "-o", "m.bin"]) == 0
    assert main(["tokenizer.bin", "--tokenizer-only", "-o", "done.bin"]) == 0
    (place / "done.bin").replace(place / "tokenizer.bin")
    assert main(["a.bin", "-o", "n.bin"]) == 1
    said = last(capsys)
    assert (
        "no tokenizer but tokenizer.bin, of some model.bin, is beside the source" in said
        and "choose with --tokenizer FILE, or none" in said
    )
    assert main(["a.bin", "-o", "n.bin", "--tokenizer", "tokenizer.bin"]) == 0
    assert Model("n.bin", verbose=False).tokenizer.n_vocab == 93


# what is refused late is refused at once


def unread(monkeypatch):
    """No source is read from here on."""

    def read(*args):
        raise AssertionError("a source was read")

    patch(monkeypatch, "read_source", read)
    patch(monkeypatch, "lone_tokenizer", read)


def test_the_default_name_is_never_replaced(place, capsys, monkeypatch):
    """A model.bin that nobody named, in the project's own folder the bundled one: refused before the source is read, also with
    --overwrite, and nothing advises to lose it."""
    for name, options in (("model.bin", []), ("tokenizer.bin", ["--tokenizer-only"])):
        (place / name).write_bytes(b"precious")
        there = names(place)
        unread(monkeypatch)
        for more in ([], ["--overwrite"]):
            assert main(["a.bin", *options, *more]) == 1
            said = last(capsys)
            assert said == f"export.py: error: {name}: exists already; expected a new name; give one with -o"
        assert names(place) == there


@pytest.mark.parametrize("flag, name", [("-o", "model.bin"), ("--tokenizer-out", "tokenizer.bin")])
def test_nothing_advises_to_lose_the_bundled_pair(flag, name, place, capsys, monkeypatch):
    """Elsewhere --overwrite is advice; of the bundled pair not, by whatever path it is named."""
    assert outputs_room.BUNDLED == (ROOT / "model.bin", ROOT / "tokenizer.bin")
    unread(monkeypatch)
    other = [] if flag == "-o" else ["-o", str(place / "new.bin")]
    (place / "mine.bin").write_bytes(b"mine")
    assert main(["a.bin", flag, "mine.bin", *other]) == 1
    assert last(capsys).endswith(f"mine.bin: exists already; expected a new name; choose another {flag}, or --overwrite")
    (place / "link").symlink_to(ROOT, target_is_directory=True)
    for path in (ROOT / name, place / "link" / name):
        assert main(["a.bin", flag, str(path), *other]) == 1
        said = last(capsys)
        assert said.endswith(f"it came with this program; choose another {flag}") and "--overwrite" not in said


EARLY = {  # arguments behind the source, words
    "it exists": (["-o", "old"], "old: exists already"),
    "a link to nowhere": (["-o", "dangling"], "dangling: exists already"),
    "no folder": (["-o", "no/m.bin"], "-o no/m.bin: its folder does not exist"),
    "a file for a folder": (["-o", "old/m.bin"], "-o old/m.bin: its folder does not exist"),
    "a folder": (["-o", "sub", "--overwrite"], "-o sub: is a folder"),
    "no name": (["-o", "", "--overwrite"], "-o .: is a folder"),
    "a device": (["-o", "/dev/null", "--overwrite"], "-o /dev/null: is no regular file"),
    "a long name": (["-o", "x" * 300], "cannot be written (File name too long); nothing was changed; choose another -o"),
    "the tokenizer exists": (["-o", "m", "--tokenizer-out", "old"], "old: exists already"),
    "no folder for the tokenizer": (["-o", "m", "--tokenizer-out", "no/t"], "--tokenizer-out no/t: its folder does not exist"),
    "one name for both": (["-o", "m", "--tokenizer-out", "./m"], "--tokenizer-out m: is named twice"),
    "the source": (["-o", "a.bin", "--overwrite"], "-o a.bin: is the source itself"),
    "the source as the tokenizer": (
        ["-o", "m", "--tokenizer-out", "./a.bin", "--overwrite"],
        "--tokenizer-out a.bin: is the source",
    ),
    "the tokenizer that is read": (["-o", "tok93.bin", "--tokenizer", "tok93.bin", "--overwrite"], "is --tokenizer itself"),
    "the template": (["-o", "old", "--chat-template", "old", "--overwrite"], "-o old: is --chat-template itself"),
    "a part of a split GGUF": (["-o", "part2.gguf", "--overwrite"], "-o part2.gguf: is a GGUF file, as sources are"),
    "the tokenizer alone exists": (["--tokenizer-only", "-o", "old"], "old: exists already"),
    "the tokenizer alone has no folder": (["--tokenizer-only", "-o", "no/t"], "-o no/t: its folder does not exist"),
    "the tokenizer alone is its source": (["--tokenizer-only", "-o", "a.bin", "--overwrite"], "is the source itself"),
}


@pytest.mark.parametrize("name", EARLY)
def test_refused_before_the_source_is_read(name, place, capsys, monkeypatch):
    (place / "old").write_bytes(b"old")
    (place / "sub").mkdir()
    (place / "dangling").symlink_to(place / "nowhere")
    (place / "part2.gguf").write_bytes(b"GGUF" + bytes(99))
    there = names(place)
    unread(monkeypatch)
    options, says = EARLY[name]
    assert main(["a.bin", *options]) == 1
    said = last(capsys)
    assert says in said and said.count("; ") >= 2 and "Traceback" not in said and names(place) == there, said


def test_parts_of_a_folder_are_not_replaced(place, capsys, monkeypatch):
    """What lies in the source's folder, or would be read as a part of it; a model.bin of ours there may be replaced."""
    source = folder(place, weights())
    before = names(source)
    for name in ("config.json", "model.safetensors", "model-2.safetensors", "pytorch_model.bin", "tokenizer.model", "notes"):
        if name == "notes":
            (source / name).write_bytes(b"mine")
            before = names(source)
        assert convert(source, source / name) == 1
        assert "part of the source" in last(capsys) and names(source) == before
    for _ in range(2):
        assert convert(source, source / "m.bin") == 0


def test_a_read_only_folder_is_known_at_once(place, capsys, monkeypatch):
    unread(monkeypatch)
    real = os.open

    def refuse(path, flags, *mode):
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, flags, *mode)

    monkeypatch.setattr(outputs_room.os, "open", refuse)
    assert main(["a.bin", "-o", "m.bin"]) == 1
    assert last(capsys).endswith("m.bin: cannot be written (Permission denied); nothing was changed; choose another -o")


def test_a_disk_too_small_is_known_before_the_weights_are_read(place, capsys, monkeypatch):
    """As large as the file will be it is enough, a block less is not."""
    assert main(["a.bin", "-o", "whole", "--tokenizer", "none"]) == 0
    size = (place / "whole").stat().st_size
    disk = lambda free: SimpleNamespace(f_frsize=1, f_bavail=free, f_bfree=free, f_blocks=1 << 40)
    monkeypatch.setattr(outputs_room.os, "fstatvfs", lambda fd: disk(size))
    assert main(["a.bin", "-o", "fits", "--tokenizer", "none"]) == 0
    patch(monkeypatch, "matrix_bytes", lambda *args: pytest.fail("weights were read"))
    monkeypatch.setattr(outputs_room.os, "fstatvfs", lambda fd: disk(9000))
    assert main(["a.bin", "-o", "m.bin", "--tokenizer", "none"]) == 1
    said = last(capsys)
    assert (
        "No space left on device: it takes" in said and "9,000 are free" in said and "free space or choose another -o" in said
    )
    assert sorted(names(place)) == ["a.bin", "fits", "tok93.bin", "whole"]


def test_a_tokenizer_that_does_not_fit_is_known_before_the_weights_are_read(place, capsys, monkeypatch):
    patch(monkeypatch, "matrix_bytes", lambda *args: pytest.fail("weights were read"))
    (place / "tok93.bin").unlink()
    assert main([str(tokenizer_file(place / "t94", 94)), "--tokenizer-only", "-o", "larger.bin"]) == 0
    for options, says in (
        (
            ["--tokenizer", "larger.bin"],
            "larger.bin: its tokenizer has 94 tokens, the model 93; expected the model's own; choose",
        ),
        (["--tokenizer", "t94"], "t94: "),
        (["--tokenizer", "nothing"], "nothing: not found; expected a tokenizer"),
        ([], "no tokenizer is beside the source; expected one; choose with --tokenizer FILE, or none"),
        (["--tokenizer", "larger.bin", "--chat-template", "t94"], "is a finished tokenizer.bin; expected what it was made of"),
    ):
        assert main(["a.bin", "-o", "m.bin", *options]) == 1
        said = last(capsys)
        assert says in said and "export it again" not in said and not (place / "m.bin").exists(), said


def test_what_appears_meanwhile_stays(place, capsys, monkeypatch):
    """Another program's file of that name, made during the export, with hard links and without; both outputs or none."""
    real = export_room.write_model

    def meanwhile(*args):
        (place / meanwhile.name).write_bytes(b"theirs")
        return real(*args)

    patch(monkeypatch, "write_model", meanwhile)
    link = os.link

    def none(*args):
        raise OSError(errno.EPERM, "no links here")

    for how in (link, none):
        monkeypatch.setattr(outputs_room.os, "link", how)
        for meanwhile.name, options in (("m", []), ("m", ["--tokenizer-out", "t"]), ("t", ["--tokenizer-out", "t"])):
            assert main(["a.bin", "-o", "m", *options]) == 1
            assert f"{meanwhile.name}: exists already" in last(capsys)
            assert names(place).keys() == {"a.bin", "tok93.bin", meanwhile.name}
            assert (place / meanwhile.name).read_bytes() == b"theirs"
            (place / meanwhile.name).unlink()
    meanwhile.name = "other"
    assert main(["a.bin", "-o", "m"]) == 0 and Model("m", verbose=False).tokenizer.n_vocab == 93  # without links too


@pytest.mark.parametrize(
    "options, says",
    [
        (["a", "--embed-tokenizer", "--tokenizer-out", "t"], "--embed-tokenizer puts it inside, --tokenizer-out beside"),
        (["a", "--tokenizer", "none", "--tokenizer-out", "t"], "there is no tokenizer with --tokenizer none"),
        (["a", "--tokenizer", "none", "--embed-tokenizer"], "there is no tokenizer with --tokenizer none"),
        (["a", "--tokenizer", "none", "--chat-template", "t"], "there is no tokenizer with --tokenizer none"),
        (["--random", "15M", "--tokenizer-out", "t"], "there is no tokenizer with --random"),
        (["--random", "15M", "--chat-template", "t"], "there is no tokenizer with --random"),
        (["--random", "15M", "--tokenizer-only"], "--random has no tokenizer"),
        (["a", "--tokenizer-only", "--tokenizer", "t"], "--tokenizer goes with a whole export"),
        (["a", "--tokenizer-only", "--tokenizer-out", "t"], "--tokenizer-out goes with a whole export"),
        (["a", "--tokenizer-only", "--type", "f32"], "--type goes with a whole export"),
        (["a", "--tokenizer-only", "--chat-template", "t"], "--chat-template goes into a whole export"),
    ],
)
def test_flags_that_contradict_each_other(options, says, capsys):
    with pytest.raises(SystemExit) as caught:
        main(options)
    assert caught.value.code == 2 and says in capsys.readouterr().err


def test_a_damaged_tokenizer_is_not_written_first(place, capsys):
    """--tokenizer-only of a finished one that is damaged: refused, and no file."""
    assert main(["tok93.bin", "--tokenizer-only", "-o", "t.bin"]) == 0
    raw = bytearray((place / "t.bin").read_bytes())
    raw[300] ^= 1
    (place / "bad.bin").write_bytes(raw)
    for args in (["bad.bin", "--tokenizer-only", "-o", "u.bin"], ["a.bin", "--tokenizer", "bad.bin", "-o", "u.bin"]):
        assert main(args) == 1
        said = last(capsys)
        assert "bad.bin: checksum does not match" in said and "export" not in said.split(": error: ")[1]
        assert not (place / "u.bin").exists()
