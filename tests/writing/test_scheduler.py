"""One scheduler for all texts: who waits for whom, what is read twice, how texts end."""

import asyncio
import contextlib
import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest

from helpers.logits import some_ids
from helpers.models import break_token, make_model
from helpers.places import ROOT
from helpers.storm import Storm, settled
from helpers.switches import HYBRIDS
from twofile.errors import ModelError
from twofile.forward import Forward
from twofile.model import Model
from twofile.streams import read
from twofile.writer import Writer

HOW = dict(temperature=0.8, ignore_eos=True)


@pytest.fixture
def passes(monkeypatch):
    """[(tokens, slots)] of every pass."""
    seen, play = [], Forward.__call__

    def watched(self, tokens, positions, slots, wanted):
        seen.append((list(tokens), list(slots)))
        return play(self, tokens, positions, slots, wanted)

    monkeypatch.setattr(Forward, "__call__", watched)
    return seen


@pytest.fixture
def long(tmp_path):
    return make_model(tmp_path / "long.bin", "q8_0", max_ctx=1200)


def written(stream):
    return [c.token for c in stream]


def at_once(*calls):
    """What functions give, each called by a thread of its own."""
    found = [None] * len(calls)
    threads = [threading.Thread(target=lambda n=n: found.__setitem__(n, calls[n]())) for n in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return found


@pytest.mark.parametrize("kind, cache", [(None, 0), (None, 1.2), ("delta rule", 0), ("convolutions", 2)])
def test_a_storm(tmp_path, kind, cache):
    """Requests of all kinds from eight threads, with much room and with hardly any: each text as if it were alone, and
    nothing is taken for ever."""
    path = break_token(make_model(tmp_path / "m.bin", "f32", **{"max_ctx": 400, **(HYBRIDS[kind] if kind else {})}))
    alone = Model(path, verbose=False)
    size = int(cache * alone.cache_bytes(alone.n_ctx)) or None
    model = Model(path, n_threads=2, cache_size=size, verbose=False)
    storm = Storm(model, alone, 1, broken=92)
    storm.run(120, 8)
    assert storm.wrong == [] and sum(storm.ended.values()) >= 120 and len(storm.ended) == 10
    assert settled(model)


def test_a_conversation_is_not_read_twice(models, passes):
    """Nor what another text began with, even if many came between."""
    m, ids = Model(models["q8_0"], verbose=False), some_ids(60)
    for n in range(3):
        answer = [t for t in written(m.stream(ids, 10, seed=n, **HOW)) if t is not None]
        written(m.stream(some_ids(50)[::-1], 5, **HOW))
        passes.clear()
        written(m.stream(ids + answer + [5, 6], 1, **HOW))
        assert len(passes[0][0]) == 3  # the last that was written was not read, as nothing followed
        ids = ids + answer + [5, 6]
    passes.clear()
    m.batch([ids[:80] + [n] for n in range(9)], 1, seed=1, **HOW)
    assert sum(len(tokens) for tokens, _ in passes) == 9


def test_a_text_that_is_there_is_not_read_by_scores(models, passes):
    m, ids = Model(models["q8_0"], verbose=False), some_ids(150)
    want = m.score(ids)[0]
    passes.clear()
    assert np.array_equal(m.score(ids, 120)[0], want[119:])
    assert sum(len(tokens) for tokens, _ in passes) == 30


def test_nobody_stalls_while_a_prompt_is_read(long, passes):
    """Between two tokens of a text, at most a chunk of another's prompt."""
    m, other = Model(long, verbose=False), some_ids(1000)
    first = m.stream(some_ids(5), 40, seed=1, **HOW)
    next(first)
    second = m.stream(other, 3, seed=2, **HOW)
    second.begin()
    got = at_once(lambda: written(first), lambda: written(second))
    own = passes[0][1][0]
    reading = [slots for _, slots in passes if len(slots) > 20 and len(set(slots)) > 1 or len(slots) > 100]
    assert len(reading) >= 7 and all(own in slots for slots in reading)
    alone = Model(long, verbose=False)
    assert got[1] == written(alone.stream(other, 3, seed=2, **HOW))
    assert got[0] == written(alone.stream(some_ids(5), 40, seed=1, **HOW))[1:]


def test_streams_share_passes(long, passes):
    """Two threads that stream long prompts: their tokens come together, and no prompt is read again."""
    m, prompts = Model(long, verbose=False), [some_ids(800), some_ids(800)[::-1]]
    at_once(*(lambda p=p: written(m.stream(p, 60, seed=1, **HOW)) for p in prompts))
    assert sum(len(tokens) for tokens, _ in passes) <= 2 * (800 + 60) + 200  # and some guesses
    assert len(passes) < 2 * 60 + 10


def test_who_does_not_read_holds_up_nobody(models):
    """Forty streams of which nobody takes more than one chunk, in sixteen places; they go on where they were."""
    m = Model(models["q8_0"], verbose=False)
    idle = [m.stream(some_ids(20 + n), 30, seed=n, **HOW) for n in range(40)]
    began = [next(stream).token for stream in idle]
    want = written(Model(models["q8_0"], verbose=False).stream(some_ids(33), 30, seed=5, **HOW))
    assert written(m.stream(some_ids(33), 30, seed=5, **HOW)) == want
    assert max(len(stream.w.chunks) for stream in idle) <= 31
    fresh = Model(models["q8_0"], verbose=False)
    for n in (3, 39, 20):
        assert [began[n], *written(idle[n])] == written(fresh.stream(some_ids(20 + n), 30, seed=n, **HOW))
    del idle
    gc.collect()
    assert settled(m)


def test_ends(long):
    """Closed, lost, left in a loop, cancelled by another thread, too late: the place is free within a pass."""
    m, ids = Model(long, verbose=False), some_ids(10)
    whole = written(Model(long, verbose=False).stream(ids, 300, seed=1, **HOW))
    stream = m.stream(ids, 300, seed=1, **HOW)
    assert [next(stream).token for _ in range(5)] == whole[:5]
    stream.close()
    assert not m.scheduler.active and written(stream) == []
    with m.stream(ids, 300, seed=1, **HOW) as stream:
        next(stream)
    assert not m.scheduler.active
    for _ in m.stream(ids, 300, seed=1, **HOW):
        break
    gc.collect()
    assert settled(m)
    stream = m.stream(ids, 300, seed=1, **HOW)
    next(stream)
    timer = threading.Timer(0.02, stream.cancel)
    timer.start()
    rest = list(stream)
    assert rest[-1].finish_reason in ("cancelled", "length") and [c.token for c in rest[:-1]] == whole[1 : len(rest)]
    stream = m.stream(ids, 300, seed=1, **HOW)
    stream.cancel()  # before it began
    assert [c.finish_reason for c in stream] == ["cancelled"]
    chunks = list(m.stream(ids, 1100, seed=1, deadline=0.01, **HOW))
    assert chunks[-1].finish_reason == "deadline" and [c.token for c in chunks[:-1]] == whole[: len(chunks) - 1]
    done = m(ids, 1100, seed=1, deadline=0, **HOW)
    assert done["choices"][0]["finish_reason"] == "length" and done["stop_reason"] == "deadline"
    for wrong in (-1, "soon", True, float("nan")):
        with pytest.raises(ModelError, match="deadline is .* expected seconds"):
            m.stream(ids, 3, deadline=wrong)
    assert settled(m)


def test_too_many_who_wait(models):
    m = Model(models["q8_0"], queue=3, verbose=False)
    streams = [m.stream([1, 2, n], 100, seed=1, **HOW) for n in range(30)]
    for stream in streams[:19]:  # sixteen have places
        stream.begin()
    with pytest.raises(ModelError, match="3 texts wait for a place, expected 3 at most; ask again later"):
        next(streams[19])
    assert len(written(streams[0])) == 101 and next(streams[20]).token is not None
    for wrong in (0, "many", -1):
        with pytest.raises(ModelError, match="queue is .* expected how many texts may wait"):
            Model(models["q8_0"], queue=wrong, verbose=False)


def test_an_error_ends_its_own_text_alone(tmp_path):
    """A token whose row of embed is no number, beside others."""
    break_token(make_model(tmp_path / "n.bin", "f32"))
    m, ids = Model(tmp_path / "n.bin", verbose=False), [i % 92 for i in some_ids(30)]
    want = [written(Model(tmp_path / "n.bin", verbose=False).stream(ids + [n], 9, seed=n, **HOW)) for n in range(4)]
    writers = [Writer(m, ids + [n if n < 4 else 92], 9, seed=n, **HOW) for n in range(5)]
    last = {w: chunk for w, chunk in m.together(iter(writers), 5)}
    assert [[c.token for c in w.chunks] for w in writers[:4]] == want
    assert last[writers[4]].finish_reason == writers[4].reason == "error" and "position 31" in str(writers[4].error)
    with pytest.raises(ModelError, match="position 31"):
        m.batch([ids + [1], ids + [92]], 5)

    def fails():
        with pytest.raises(ModelError, match="position 31"):
            written(m.stream(ids + [92], 9))
        with pytest.raises(ModelError, match="position 31"):
            m.score(ids + [92, 3])

    got = at_once(fails, *(lambda n=n: written(m.stream(ids + [n], 9, seed=n, **HOW)) for n in range(4)))
    assert got[1:] == want and settled(m)


def test_a_closed_model(tiny):
    with Model(tiny, n_threads=2, verbose=False) as m:
        m.generate("the", 3)
        stream = m.stream("a fox", 200, ignore_eos=True)
        next(stream)
        before = threading.active_count()
    assert threading.active_count() < before and [c.finish_reason for c in stream][-1] == "closed"
    begins = (lambda: m.stream("x"), lambda: m.astream("x"), lambda: m.together([]), lambda: m("x", stream=True))
    for use in (lambda: m.generate("x"), lambda: m.score([1, 2]), lambda: m.batch(["x"]), m.ready, *begins):
        with pytest.raises(ModelError, match="the model was closed, expected an open one"):
            use()
    m.close()
    Model(tiny, verbose=False).close()
    m = Model(tiny, n_threads=2, verbose=False)
    going = [m.stream("a fox", 240, seed=n, ignore_eos=True) for n in range(4)]
    for stream in going:
        next(stream)
    threading.Timer(0.02, m.close).start()  # while they are written
    ends = at_once(*(lambda s=s: list(s)[-1].finish_reason for s in going))
    assert set(ends) <= {"closed", "context"}


def test_a_text_that_was_cut_short_is_no_whole_text(talker, monkeypatch):
    """Closed by another thread in the middle, what gives whole texts raises."""
    ask, how = [{"role": "user", "content": "a fox"}], dict(max_tokens=90, ignore_eos=True)
    push = Writer.push
    for way in (
        lambda m: m.generate("a fox", **how),
        lambda m: m("a fox", **how),
        lambda m: m.batch(["a fox"], **how),
        lambda m: m.best_of("a fox", 2, **how),
        lambda m: m.create_chat_completion(ask, **how),
    ):
        m = Model(talker, n_threads=1, verbose=False)

        def pushed(w, token, m=m):
            if w.count == 5 and not m.scheduler.closed:
                m.scheduler.closed = True
                m.scheduler.end_all("closed")
            return push(w, token)

        monkeypatch.setattr(Writer, "push", pushed)
        with pytest.raises(ModelError, match="the model was closed, expected an open one"):
            way(m)
        monkeypatch.undo()
        m.close()


def test_more_places_than_there_are(tiny):
    """No more share a pass: the others' places in the queue stay free."""
    with Model(tiny, n_threads=1, verbose=False, queue=1) as m:
        texts = m.batch(["a fox"] * 20, 3, places=1000, seed=1, ignore_eos=True)
        assert texts == m.batch(["a fox"] * 20, 3, places=2, seed=1, ignore_eos=True)
        assert len(list(m.together((Writer(m, "a fox", 0) for _ in range(20)), 20))) == 20


def test_asyncio(tiny):
    """Many tasks, and threads beside them; one that is cancelled, one that breaks out, one that fails."""
    m, how = Model(tiny, verbose=False), dict(max_tokens=30, ignore_eos=True)
    want = [m.generate("the fox", seed=n, **how) for n in range(20)]
    chunks = lambda n: m.astream("the fox", seed=n, **how)

    async def text(n):
        return "".join([chunk.text async for chunk in chunks(n)])

    async def all_of_them():
        assert await asyncio.gather(*map(text, range(20))) == want
        task = asyncio.create_task(text(3))
        await asyncio.sleep(0.01)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        async with chunks(4) as stream:
            async for _ in stream:
                break
        stream = chunks(5)
        await anext(stream)
        stream.cancel()
        assert [chunk.finish_reason async for chunk in stream][-1] == "cancelled"
        with pytest.raises(ModelError, match="temperature"):
            m.astream("x", temperature=-1)
        ticks = []
        beside = asyncio.create_task(tick(ticks))
        found = await asyncio.gather(
            *map(text, range(20)), *(asyncio.to_thread(m.generate, "the fox", seed=n, **how) for n in range(4))
        )
        beside.cancel()
        assert found == want + want[:4] and ticks

    async def tick(ticks):
        while True:
            ticks.append(1)
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(all_of_them(), 60))
    assert settled(m)
    m.close()

    async def closed():
        with pytest.raises(ModelError, match="closed"):
            await anext(m.astream("x", 3))

    asyncio.run(closed())


def test_the_interpreter_ends_with_streams_open(tiny):
    """Half read, being read by daemon threads, awaited."""
    code = (
        "import sys, threading, asyncio, twofile\n"
        f"m = twofile.Model({str(tiny)!r}, n_threads=2, verbose=False)\n"
        "half = m.stream('a fox', ignore_eos=True); next(half)\n"
        "def work(n):\n"
        "    while True: m.generate('the', seed=n, ignore_eos=True)\n"
        "for n in range(3): threading.Thread(target=work, args=(n,), daemon=True).start()\n"
        "async def one():\n"
        "    async for chunk in m.astream('hen', ignore_eos=True): return chunk\n"
        "asyncio.run(one())\n"
        "print('end')\n"
    )
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"end\n", b"")


def test_an_idle_model_uses_no_processor_time(tiny):
    m = Model(tiny, n_threads=2, verbose=False)
    stream = m.stream("a fox", ignore_eos=True)
    next(stream)
    time.sleep(0.3)  # threads look for work for a moment
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.05


def test_cache_size(models):
    """Room for one context and a page: sixteen texts at once, each as if alone. Less than a context is refused."""
    path, ids = models["q8_0"], some_ids(190)
    alone = Model(path, verbose=False)
    need = alone.cache_bytes(200)
    m = Model(path, cache_size=need, verbose=False)
    prompts = [ids[n : n + 60 + 5 * n] for n in range(16)]
    got = at_once(*(lambda n=n: written(m.stream(prompts[n], 90, seed=n, **HOW)) for n in range(16)))
    assert got == [written(alone.stream(prompts[n], 90, seed=n, **HOW)) for n in range(16)] and settled(m)
    assert m.scheduler.pages.count == 5  # 200 positions, and one to copy to
    with pytest.raises(ModelError, match="cache_size of .* expected room for one context of 200"):
        Model(path, n_ctx=200, cache_size=need - 1, verbose=False)
    with pytest.raises(ModelError, match="cache_size is 'much'"):
        Model(path, cache_size="much", verbose=False)


def test_a_model_that_nobody_has_is_gone_at_once(tiny):
    """Its memory is not kept until Python looks for circles."""
    gc.collect()
    gc.disable()
    try:
        m = Model(tiny, n_threads=2, verbose=False)
        m.generate("the", 3)
        list(m.stream("a fox", 5))
        m.batch(["a", "b"], 3)
        m.score([1, 2, 3])
        lost = weakref.ref(m), weakref.ref(m.scheduler), weakref.ref(m.forward)
        del m
        assert [ref() for ref in lost] == [None] * 3
    finally:
        gc.enable()


@pytest.mark.parametrize("kind", [None, "delta rule"])
def test_ctrl_c_at_any_time_beside_others(tmp_path, kind):
    """A signal in the main thread, at random times, while three threads write: they write what they would, and so does it."""
    path = make_model(tmp_path / "m.bin", "q8_0", **{"max_ctx": 400, **(HYBRIDS[kind] if kind else {})})
    ids = [some_ids(70 + n)[n:] for n in range(4)]
    alone = Model(path, n_threads=1, verbose=False)
    want = [written(alone.stream(ids[n], 60, seed=n, **HOW)) for n in range(4)]
    m, rng, interrupted = Model(path, n_threads=1, verbose=False), np.random.default_rng(0), 0
    m.ready()
    for _ in range(25):
        got = [None] * 3
        work = lambda n, got=got: got.__setitem__(n, written(m.stream(ids[n], 60, seed=n, **HOW)))
        threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        timer = threading.Timer(rng.random() * 0.03, os.kill, (os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            timer.start()
            late = time.monotonic() + 30
            while time.monotonic() < late:
                assert written(m.stream(ids[3][: rng.integers(5, 70)], 10, seed=3, **HOW))
        interrupted += 1
        for thread in threads:
            thread.join(30)
        assert got == want[:3]
        assert written(m.stream(ids[3], 60, seed=3, **HOW)) == want[3]
    assert interrupted == 25 and settled(m)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer here")
def test_a_signals_handler_may_end_texts(models):
    """It runs in the middle of anything that the main thread does."""
    m = Model(models["q8_0"], n_threads=1, verbose=False)
    want = written(m.stream([1, 2, 3], 150, seed=1, **HOW))
    for n in range(40):
        stream = m.stream([1, 2, 3], 150, seed=1, **HOW)
        before = signal.signal(signal.SIGALRM, lambda *_, stream=stream: stream.cancel())
        signal.setitimer(signal.ITIMER_REAL, 0.0005 * (n + 1))
        tokens = written(stream)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        assert tokens[:-1] == want[: len(tokens) - 1] and stream.w.reason in ("cancelled", "length")
    assert settled(m)


def test_a_task_and_a_thread(long):
    """A task awaits a long prompt while a thread writes, ends, writes again: somebody always plays."""
    m = Model(long, verbose=False)
    ids, short = some_ids(1000), some_ids(9)

    async def both():
        for n in range(4):
            beside = asyncio.to_thread(lambda n=n: written(m.stream(short, 6, seed=n, **HOW)))
            stream = m.astream(ids[n:], 3, seed=n, **HOW)
            await asyncio.gather(anext(stream), beside)
            await stream.aclose()

    asyncio.run(asyncio.wait_for(both(), 60))
    assert settled(m)


def test_who_begins_like_one_that_nobody_reads_does_not_wait_for_it(long):
    """In a cache with room for one context, whose pages others take."""
    m = Model(long, cache_size=Model(long, verbose=False).cache_bytes(1200), verbose=False)
    system = some_ids(400)
    idle = m.stream(system + [1], 100, seed=1, **HOW)
    next(idle)
    written(m.stream(some_ids(900)[::-1], 250, seed=2, **HOW))
    want = written(Model(long, verbose=False).stream(system + [2], 20, seed=3, **HOW))
    (got,) = at_once(lambda: written(m.stream(system + [2], 20, seed=3, **HOW)))
    assert got == want
    assert len(written(idle)) == 100 and settled(m)


def test_a_long_prompt_has_its_turn(long):
    """Among short ones without end."""
    m, rng = Model(long, verbose=False), np.random.default_rng(0)
    first = Writer(m, some_ids(1000), 2, seed=1, **HOW)
    short = lambda: Writer(m, rng.integers(3, 90, 100).tolist(), 2, seed=2, **HOW)
    writers = itertools.chain([short(), first], (short() for _ in range(400)))
    ended = []
    for w, chunk in m.together(writers, 8):
        ended += [w] if chunk.finish_reason else []
        if first.reason:
            break
    assert first.reason and len(ended) < 200


def test_two_threads_read_one_stream(models):
    m = Model(models["q8_0"], verbose=False)
    want = written(m.stream([1, 2, 3], 100, seed=1, **HOW))
    stream = m.stream([1, 2, 3], 100, seed=1, **HOW)
    parts = at_once(lambda: written(stream), lambda: written(stream))
    assert sorted(map(str, parts[0] + parts[1])) == sorted(map(str, want))


def test_an_error_of_any_kind_is_its_owners(models):
    m, ids = Model(models["q8_0"], verbose=False), some_ids(150)
    want = written(m.stream(ids, 40, seed=1, **HOW))

    def fails():
        def take(at, rows):
            raise MemoryError("somebody else's")

        with pytest.raises(MemoryError, match="else's"):
            read(m.scheduler, ids[::-1], 0, take)

    for _ in range(5):
        assert at_once(fails, lambda: written(m.stream(ids, 40, seed=1, **HOW)))[1] == want
    assert settled(m)


def test_every_chunk_arrives_whoever_plays(tiny):
    """Threads that are switched all the time."""
    m, before = Model(tiny, n_threads=1, verbose=False), sys.getswitchinterval()
    want = [m.generate("the", seed=n, max_tokens=12, ignore_eos=True) for n in range(5)]

    def many():
        for _ in range(10):
            writers = [Writer(m, "the", 12, seed=n, ignore_eos=True) for n in range(5)]
            last = {w: chunk.finish_reason for w, chunk in m.together(iter(writers), 3)}
            if [w.written for w in writers] != want or set(last.values()) != {"length"}:
                return last
        return True

    sys.setswitchinterval(1e-5)
    try:
        assert at_once(*[many] * 5) == [True] * 5
    finally:
        sys.setswitchinterval(before)
