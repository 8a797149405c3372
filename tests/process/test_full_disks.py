"""A full disk under all that writes. Row X10 of the list of harms."""

from types import SimpleNamespace

import pytest

from helpers.process import call, refused
from twofile.errors import ModelError
from twofile.export.main import main
from twofile.front.commands import Commands


def test_a_full_disk_everywhere(small_disk, tiny, talker, tmp_path, capfd):
    """X10: export, --batch -o, --prompt-cache, kernels and /save on a full disk: words, no half file under a final name."""
    folder, leave = small_disk
    names = lambda: sorted(p.name for p in folder.iterdir() if p.name != "filler")
    for n in (0, 8192, 300_000):
        leave(n)
        code = main(["--random", "15M", "-o", str(folder / "m.bin")])
        err = capfd.readouterr().err
        assert code == 1 and "No space left" in err and "nothing was changed" in err and names() == []
    (tmp_path / "in").write_text('"the fox"\n' * 400)
    args = (tiny, "--batch", tmp_path / "in", "-n", "30", "-s", "1")
    leave(20_000)
    refused(call(*args, "-o", folder / "out", "-q"), "out.part: cannot be written (No space left", "--resume")
    assert names() == ["out.part"]
    leave(400_000)
    done = call(*args, "-o", folder / "out", "--resume", "-q")
    assert done.returncode == 0 and (folder / "out").read_bytes() == call(*args, "-q").stdout
    (folder / "out").unlink()
    for n in (0, 4096):
        leave(n)
        done = call(tiny, "-p", "the fox and " * 9, "-n", "3", "-s", "1", "-q", "--prompt-cache", folder / "cache")
        assert done.returncode == 1 and b"cannot be written (No space left" in done.stderr and names() == []
        chat = Commands(SimpleNamespace(messages=[{"role": "user", "content": "x" * 9000}]), None, None)
        with pytest.raises(ModelError, match="cannot be written .*No space left"):
            chat.command(f"/save {folder}/kept")
        assert names() == []
