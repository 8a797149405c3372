"""Pages in files: of use to later runs, to others meanwhile, and to no other model; never believed if they were changed."""

import os

import numpy as np
import pytest

from helpers.logits import some_ids
from helpers.models import make_model
from helpers.process import call
from helpers.switches import HYBRIDS
from twofile.errors import ModelError
from twofile.model import Model

HOW = dict(temperature=0.8, seed=3, ignore_eos=True)


@pytest.fixture(params=[None, *HYBRIDS])
def path(request, tmp_path):
    sizes = HYBRIDS[request.param] if request.param else {}
    return make_model(tmp_path / "m.bin", "q8_0", **{"max_ctx": 600, **sizes})


def text(model, ids, n=12):
    """Its tokens, and how many of the prompt were not read again."""
    stream = model.stream(ids, n, **HOW)
    return [c.token for c in stream], stream.w.cached


def test_a_later_run_does_not_read_again(path, tmp_path):
    ids = some_ids(300)
    with Model(path, cache_dir=tmp_path / "kept", verbose=False) as m:
        want = text(m, ids)[0]
    assert list((tmp_path / "kept").glob("*.page")) and not list((tmp_path / "kept").glob("*.part*"))
    with Model(path, cache_dir=tmp_path / "kept", verbose=False) as m:
        found, cached = text(m, ids)
        assert found == want and cached >= 256 - 64 * (m.engine.mark_every - 1)
        assert text(m, ids[:200])[0] == text(Model(path, verbose=False), ids[:200])[0]
        assert text(m, ids[:100] + [5] + ids[101:])[1] <= 100
        assert np.array_equal(m.logits(ids), Model(path, verbose=False).logits(ids))


def test_what_there_is_no_room_for_comes_back(path, tmp_path):
    """Conversations in turns, in a cache with room for one."""
    alone = Model(path, verbose=False)
    size = 3 * alone.cache_bytes(alone.n_ctx)
    m = Model(path, cache_dir=tmp_path / "kept", cache_size=size, verbose=False)
    prompts = [some_ids(400)[n : n + 300] for n in range(12)]
    want = [text(alone, ids)[0] for ids in prompts]
    for _ in range(2):
        found = [text(m, ids) for ids in prompts]
        assert [tokens for tokens, _ in found] == want
    assert sum(cached for _, cached in found) >= 6 * 192 or m.engine.marks


@pytest.mark.parametrize("harm", ["cut", "bit", "empty", "key", "folder"])
def test_a_page_that_is_harmed_is_read_anew(path, tmp_path, harm, caplog):
    caplog.set_level("INFO", "twofile")
    ids, folder = some_ids(300), tmp_path / "kept"
    with Model(path, cache_dir=folder, verbose=False) as m:
        want = text(m, ids)[0]
    pages = sorted(folder.glob("*.page"))
    for page in pages:
        raw = page.read_bytes()
        if harm == "cut":
            page.write_bytes(raw[:-1])
        elif harm == "bit":
            page.write_bytes(raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:])
        elif harm == "empty":
            page.write_bytes(b"")
        elif harm == "folder":
            page.unlink()
            page.mkdir()
    if harm == "key":  # a good page under another's name
        raw = [page.read_bytes() for page in pages]
        for page, other in zip(pages, raw[1:] + raw[:1]):
            page.write_bytes(other)
    m = Model(path, cache_dir=folder)
    assert text(m, ids) == (want, 0)
    said = caplog.text
    assert harm == "folder" or "cut or changed; it is taken away" in said
    m.close()


def test_of_another_model_nothing_is_taken(path, tmp_path):
    ids, other = some_ids(300), make_model(tmp_path / "other.bin", "q8_0", seed=1, max_ctx=600)
    with Model(path, cache_dir=tmp_path / "kept", verbose=False) as m:
        text(m, ids)
    for again in (
        Model(other, cache_dir=tmp_path / "kept", verbose=False),
        Model(path, kv="f32", cache_dir=tmp_path / "kept", verbose=False),
    ):
        assert text(again, ids)[1] == 0


def test_two_runs_share_a_folder(path, tmp_path):
    ids = some_ids(300)
    one, two = (Model(path, cache_dir=tmp_path / "kept", verbose=False) for _ in range(2))
    want = text(one, ids)
    one.close()
    assert text(two, ids)[0] == want[0] and text(two, some_ids(300)[::-1])[0]
    two.close()
    assert text(Model(path, cache_dir=tmp_path / "kept", verbose=False), ids)[0] == want[0]


def test_the_folder_has_a_bound(path, tmp_path, monkeypatch):
    m = Model(path, cache_dir=tmp_path / "kept", verbose=False)
    m.engine.spill_size = 200_000
    for n in range(12):
        text(m, some_ids(400)[n : n + 300])
    m.close()
    sizes = [page.stat().st_size for page in (tmp_path / "kept").glob("*.page")]
    assert 100_000 < sum(sizes) <= 200_000


def test_folders_that_cannot_be(path, tmp_path, caplog):
    caplog.set_level("INFO", "twofile")
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cache_dir .*file: cannot be used .* expected a folder to write to"):
        Model(path, cache_dir=tmp_path / "file", verbose=False).generate([1, 2])
    m = Model(path, cache_dir=tmp_path / "gone")
    want = text(m, some_ids(300))
    os.rmdir(tmp_path / "gone")
    m.close()  # says it, and ends well
    assert "cannot be written" in caplog.text and want[0]


def test_a_full_disk(path, small_disk, caplog):
    caplog.set_level("INFO", "twofile")
    folder, leave = small_disk
    leave(60_000)
    m = Model(path, cache_dir=folder / "kept")
    want = text(m, some_ids(500))[0]
    m.close()
    assert caplog.text.count("cannot be written") == 1
    m = Model(path, cache_dir=folder / "kept", verbose=False)
    assert text(m, some_ids(500))[0] == want


def test_on_the_command_line(tiny, tmp_path):
    args = (tiny, "-p", "the fox and the hen " * 6, "-n", "9", "-s", "1", "--ignore-eos", "--cache-dir", tmp_path / "kept")
    first, second = call(*args), call(*args)
    assert first.stdout == second.stdout and b"cached" in second.stderr and b"cached" not in first.stderr
    done = call(tiny, "-p", "x", "-n", "2", "--cache-size", "10Q")
    assert done.returncode == 1 and b"--cache-size is '10Q', expected bytes, as 500M or 4G" in done.stderr
    assert call(tiny, "-p", "x", "-n", "2", "--cache-size", "2m").returncode == 0


def test_a_page_file_that_is_none(path, tmp_path):
    """Under the right names: far too large, a pipe. Nothing hangs, nobody's text ends."""
    ids, folder = some_ids(300), tmp_path / "kept"
    with Model(path, cache_dir=folder, verbose=False) as m:
        want = text(m, ids)[0]
    for n, page in enumerate(sorted(folder.glob("*.page"))):
        page.unlink()
        if n % 2:
            with open(page, "wb") as f:
                f.truncate(1 << 40)
        else:
            os.mkfifo(page)
    assert text(Model(path, cache_dir=folder, verbose=False), ids) == (want, 0)


def test_what_stays_in_a_full_folder_is_of_use(tmp_path):
    """The beginnings of texts stay longer than what is behind them."""
    path, ids = make_model(tmp_path / "m.bin", "q8_0", max_ctx=600), some_ids(600)[:590]
    m = Model(path, cache_dir=tmp_path / "kept", verbose=False)
    text(m, ids, 2)
    m.engine.spill_size = m.scheduler.pages.spill.bound = 6 * (m.forward.cache.page_bytes + 72)
    m.close()
    again = text(Model(path, cache_dir=tmp_path / "kept", verbose=False), ids, 2)[1]
    assert again == 64 * len(list((tmp_path / "kept").glob("*.page"))) >= 64 * 4


@pytest.mark.parametrize("wrong", [5, b"x", "", "a\0b"])
def test_what_is_no_folder(path, wrong):
    with pytest.raises(ModelError, match="cache_dir is .* expected a folder; name one"):
        Model(path, cache_dir=wrong, verbose=False)
