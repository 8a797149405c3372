"""Fixtures of all tests: tiny models made with export.py's own writer, and a disk that is soon full."""

import os
import signal
import subprocess

import pytest

pytest.register_assert_rewrite("helpers", "twins")

from helpers.models import TYPES, make_model, make_talker  # noqa: E402
from helpers.vocabularies import byte_bpe  # noqa: E402

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell starts what is behind an & so, and children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """dtype -> path of an awkward model of that type."""
    folder = tmp_path_factory.mktemp("models")
    return {t: make_model(folder / f"{t}.bin", t) for t in TYPES}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A random model with the byte-level tokenizer of the tests inside; its text is nonsense."""

    path = tmp_path_factory.mktemp("tiny") / "model.bin"
    return make_model(path, "q8_0", vocab_size=263, tokenizer=byte_bpe(), embed=True)


@pytest.fixture(scope="session")
def talker(tmp_path_factory):
    return make_talker(tmp_path_factory.mktemp("talker") / "model.bin")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte -> (folder, function that leaves so many bytes free)."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if (
        os.getuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True).returncode
    ):
        pytest.skip("a file system can be mounted only by root")

    def leave(n):
        (folder / "filler").unlink(missing_ok=True)
        free = os.statvfs(folder)
        (folder / "filler").write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - n)))

    yield folder, leave
    subprocess.run(["umount", folder], check=True)
