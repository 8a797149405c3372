"""What an export writes, and what it leaves alone."""

from helpers.checkpoints import convert, llama2c_file, weights
from helpers.places import ROOT, shared
from helpers.rooms import patch
from twofile.export.main import main
from twofile.export.write import metadata
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
