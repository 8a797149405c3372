"""What a program imports: text in, text out."""

import hashlib
import itertools
import math
import os
import random
import struct
import sys
import threading
from pathlib import Path

import numpy as np

from .errors import ModelError, printable
from .files import padded, read_small
from .format.table import VERSION
from .format.types import MATRIX_TYPES
from .forward import Forward, cache_bytes, has_states
from .guess import Lookup, alike, generate, line_seed
from .machine import available_cores, total_memory
from .modelfile import check_id, open_model
from .program.passes import CHUNK, KEYS, WANTED_MAX
from .tokenizer.file import ADD_BOS, MOST_BYTES
from .tokenizer.tokenizer import TextStream, Tokenizer
from .writer import Writer, log_softmax

CACHE_MAGIC = b"\x89LMK\r\n\x1a\n"
CACHE_HEADER = struct.Struct(
    "<8sIIQ32s32s"
)  # magic, version, bytes of a number, positions, model id, SHA-256 of the rest


class Model:
    """A model file ready to run. Maps the file; the first forward loads or compiles the kernels.

    path: model.bin. tokenizer: a tokenizer.bin; None = the one inside the model file, or tokenizer.bin beside it.
    n_ctx: positions of the KV cache, 0 = the model's. n_threads: None = the cores this process may use.
    kv: "f16" or "f32" cache; None = f32 for f32 models, else f16. verbose: notices (compiling, cache) on stderr. id: the model
    id that the file must have, 64 hex digits or the first 16 or more; then every tensor is compared with its SHA-256 too.
    Raises ModelError with a message in four parts: which file, what was found, what was expected, what to do.
    """

    def __init__(
        self, path, tokenizer=None, n_ctx=0, n_threads=None, kv=None, verbose=True, id=None
    ):
        self.settings = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        self.file, self.name = open_model(path), printable(str(path))  # the name is for messages
        if id is not None:
            check_id(self.file, id)
        c = self.config = self.file.config
        if not 0 <= n_ctx <= c.max_ctx:
            raise ModelError(
                f"context of {n_ctx} tokens, expected 1 to the {c.max_ctx} of {printable(str(path))}; choose less"
            )
        self.n_ctx = n_ctx or c.max_ctx
        self.n_threads = available_cores() if n_threads is None else n_threads
        if not 1 <= self.n_threads <= 1024:
            raise ModelError(
                f"{self.n_threads} threads, expected 1 to 1024; leave it out for {available_cores()}"
            )
        f32 = self.file.tensors["embed"].dtype == "f32"
        self.kv = kv or ("f32" if f32 else "f16")
        self.notice = (
            (lambda text: print(f"run.py: {text}", file=sys.stderr, flush=True))
            if verbose
            else (lambda text: None)
        )
        self.tokenizer = self._find_tokenizer(tokenizer)
        said = {
            "temperature": c.sampling.temperature,
            "top_p": c.sampling.top_p,
            "top_k": c.sampling.top_k,
        }
        self.sampling = {
            name: round(value, 6) for name, value in said.items() if value
        }  # what the file says of it
        self.forward, self.spare, self.lock = None, [], threading.RLock()
        self.playing = None  # the Forward of the last pass
        self.fed, self.owner = (
            [],
            None,
        )  # the ids whose keys and values are in the cache, and the list they were taken from
        # some layers may keep states, which cannot be cut as keys and values can: a number of those ids, the states after them
        self.recurrent, self.kept = has_states(c), (0, [])
        self.fit(1)
        if self.file.size > total_memory():
            self.notice(
                f"{self.name} is larger than memory ({self.file.size:,} bytes): it runs at the speed of the disk"
            )

    def __getstate__(self):
        return self.settings

    def __setstate__(self, settings):
        self.__init__(**settings)

    def _find_tokenizer(self, path):
        c, inside = self.config, self.file.tensors.get("tokenizer")
        beside = Path(self.file.path).parent / "tokenizer.bin"
        if path is None and inside is not None:
            tokenizer = Tokenizer(inside.data[: MOST_BYTES + 1].tobytes())
        elif path is None and not any(c.tokenizer_sha256):
            return None  # exported without one: what lies beside it is another model's
        elif path is not None or beside.exists():
            tokenizer = Tokenizer(path or beside)
        else:
            where = printable(str(beside))
            raise ModelError(
                f"{where}: not found; expected this model's tokenizer; copy it there, or name it with -z"
            )
        if any(c.tokenizer_sha256) and tokenizer.sha256 != c.tokenizer_sha256:
            found, want = tokenizer.sha256.hex()[:16], c.tokenizer_sha256.hex()[:16]
            where = printable(str(path or (self.file.path if inside else beside)))
            raise ModelError(
                f"{where}: tokenizer {found}… is of another model, expected {want}…; use the one exported with it"
            )
        if tokenizer.n_vocab > c.vocab_size:
            n = tokenizer.n_vocab
            raise ModelError(
                f"tokenizer has {n} tokens, the model {c.vocab_size}; use the one exported with it"
            )
        return tokenizer

    def _need_tokenizer(self):
        if self.tokenizer is None:
            raise ModelError(
                f"{self.name}: exported without a tokenizer; expected one to read text; give ids, or -z FILE"
            )
        return self.tokenizer

    @property
    def info(self):
        """What the file says of itself, as a dict of plain values."""
        c, t = self.config, self.file.tensors
        shapes = {
            "dim": c.dim,
            "layers": c.n_layers,
            "heads": c.heads.n,
            "kv_heads": c.heads.kv,
            "head_dim": c.heads.size,
        }
        matrices = [x for x in t.values() if x.type in MATRIX_TYPES and len(x.shape) == 2]
        weights = [
            x
            for x in t.values()
            if x.type in MATRIX_TYPES and x.name[-2:] != ".s" and x.name[:4] != "rope"
        ]
        return {
            "file": self.file.path,
            "bytes": self.file.size,
            "model_id": self.file.model_id,
            "architecture": printable(c.arch_tag),
            "parameters": sum(math.prod(x.shape) for x in weights),
            "type": "/".join(sorted({x.dtype for x in matrices})),
            **shapes,
            "ffn_dim": c.ffn.width,
            "vocab_size": c.vocab_size,
            "max_ctx": c.max_ctx,
            "ctx": self.n_ctx,
            "memory_at_ctx": self.file.size + self._cache_bytes(self.n_ctx),
            "kv_bytes_at_ctx": self._cache_bytes(self.n_ctx),
            "sampling": self.sampling or None,
            "tokenizer": self.tokenizer and self.tokenizer.sha256.hex(),
            "chat": self.tokenizer and self.tokenizer.chat_form(),
            "note": printable(self.file.note),
        }

    def _cache_bytes(self, n_ctx):
        """Of one sequence: keys and values of so many positions, and states."""
        return cache_bytes(self.config, self.kv, n_ctx)

    def _keep(self):
        """Keep the states as they are now, so that the cache can be taken back to here."""
        self.kept = len(self.fed), [part.copy() for part in self.forward.state(0)]

    def _back(self, n):
        """Take the cache back to its first n ids; where there are states, to where they were kept, or to nothing. -> how many
        are left."""
        fed = self.fed
        if n < len(fed) and self.recurrent:
            self.fed = []  # Ctrl-C may come at any time: states must not be taken for others
            n = self.kept[0] if self.kept[0] <= n else 0
            for part, before in zip(self.forward.state(0), self.kept[1] if n else []):
                part[:] = before
        if n < self.kept[0]:
            self.kept = 0, []
        del fed[n:]
        self.fed = fed
        return n

    def fit(self, places):
        """Unless a context was asked for: the model's, halved until the cache of so many texts takes half of memory."""
        n = self.n_ctx
        while (
            not self.settings["n_ctx"]
            and n > 512
            and places * self._cache_bytes(n) > total_memory() // 2
        ):
            n //= 2
        if n < self.n_ctx:
            need = places * self._cache_bytes(self.n_ctx)
            many = f"{places} contexts" if places > 1 else "the context"
            self.notice(
                f"{many} of {n} tokens; {self.n_ctx} would take {need:,} bytes of memory; -c asks for more"
            )
            self.n_ctx = n

    def _build(self, n_ctx, places):
        """A new Forward of so many contexts, or a ModelError that says what they take."""
        need, have = places * self._cache_bytes(n_ctx), total_memory()
        try:
            if need > have:
                raise MemoryError
            forward = Forward(self.file, n_ctx, places, self.kv, self.n_threads, self.notice)
        except MemoryError as e:
            need = next((n for n in e.args if isinstance(n, int)), need)
            what = (
                f"{places} contexts of {n_ctx} tokens take"
                if places > 1
                else f"a context of {n_ctx} tokens takes"
            )
            less = "-c or -np" if places > 1 else "-c or -n"
            raise ModelError(
                f"{what} {need:,} bytes, this machine has {have:,}; choose a smaller {less}"
            ) from None
        self.code = forward.code
        return forward

    def _open(self, n_ctx):
        """A Forward of at least n_ctx positions: the next power of two, so that growing prompts seldom need a new one."""
        if self.forward is None or self.forward.n_ctx < n_ctx:
            n_ctx = min(self.n_ctx, max(256, 1 << (n_ctx - 1).bit_length()))
            self.forward, self.fed = self._build(n_ctx, 1), []
            self.owner, self.kept = None, (0, [])
        return self.forward

    def _step(self, text, ids, position, wanted):
        """Logits after each of the last wanted of ids, which begin at position of text (a list of ids, of which those before
        position count). What the cache holds of them is not computed again."""
        if self.owner is not text:  # another text was here since
            ids, position, self.owner = text[:position] + ids, 0, text
        n, self.playing = position, self.forward
        while (
            n < position + len(ids) - wanted
            and n < len(self.fed)
            and self.fed[n] == ids[n - position]
        ):
            n += 1
        n = self._back(n)
        if n < position:
            ids, position = text[:position] + ids, 0
        while n < position + len(ids):
            left = position + len(ids) - n
            size = (
                left if left <= CHUNK else min(CHUNK, left - wanted)
            )  # those wanted are all in the last pass
            if (
                self.recurrent and left > wanted
            ):  # and alone there: what comes before them may be wanted again
                size = min(CHUNK, left - wanted)
            part = ids[n - position : n - position + size]
            rows = range(size - wanted, size) if n + len(part) == position + len(ids) else []
            fed, self.fed = self.fed, [] if self.recurrent else self.fed
            logits = self.forward(part, range(n, n + len(part)), [0] * len(part), rows)
            fed += part
            self.fed, n = fed, n + len(part)
            if self.recurrent and left - size == wanted:
                self._keep()
        return logits

    def not_finite(self, position):
        """The ModelError for logits at that position, of the pass before, that are no numbers."""
        where = self.playing.where_not_finite()
        self.fed = [] if self.recurrent else self.fed  # states have seen the pass twice
        found = f"NaN or infinity at position {position}" + (f", begun in {where}" if where else "")
        return ModelError(
            f"{self.name}: {found}, expected finite logits; run --verify, copy or export it again"
        )

    def short(self, text):
        """text, if it could fit into the context: what its length alone rules out is refused before it costs time or room."""
        longest = self._need_tokenizer().longest
        least = -(-len(text) // longest) if longest else 1
        if least > self.n_ctx:
            found = f"{len(text):,} characters, {least:,} tokens or more"
            raise ModelError(
                f"prompt: {found}, expected 1 to {self.n_ctx}; shorten it, or raise -c"
            )
        return text

    def tokenize(self, text, add_bos=True):
        """-> ids; with the begin token if the model has one and add_bos."""
        return self._need_tokenizer().encode(text, add_bos)

    def encode_chat(self, messages):
        """[{"role", "content"}] -> ids up to where the assistant begins; see Tokenizer.encode_chat."""
        for m in messages if isinstance(messages, list) else ():
            if isinstance(m, dict) and isinstance(m.get("content"), str):
                self.short(m["content"])
        return self._need_tokenizer().encode_chat(messages)

    def detokenize(self, ids):
        """-> str"""
        return self._need_tokenizer().decode(ids)

    def logits(self, ids):
        """float32 [len(ids), vocab_size]: row i is the model's opinion of what follows ids[: i + 1]."""
        ids = self._check(ids)
        with self.lock:
            self._open(len(ids))
            ends = [min(n + WANTED_MAX, len(ids)) for n in range(0, len(ids), WANTED_MAX)]
            return np.concatenate(
                [self._step(ids, ids[:n], 0, (n - 1) % WANTED_MAX + 1).copy() for n in ends]
            )

    def _check(self, ids):
        ids = [int(i) for i in ids]
        wrong = [i for i in ids if not 0 <= i < self.config.vocab_size]
        if not ids or wrong or len(ids) > self.n_ctx:
            found = f"id {wrong[0]}" if wrong else f"{len(ids)} tokens"
            raise ModelError(
                f"prompt: {found}, expected 1 to {self.n_ctx} ids below {self.config.vocab_size}; shorten it, or raise -c"
            )
        return ids

    def write(self, w, lookup=True):
        """Yield the Chunks of a Writer as they are made. lookup: guess what repeats; changes the speed, nothing else."""
        with self.lock:
            self._open(len(w.ids) + w.limit)

        def step(ids, position, n):
            rows = self._step(w.ids, ids, position, n)
            return rows.copy() if n > 1 else rows  # more than one row outlives the lock

        guess = (
            Lookup() if lookup and not self.recurrent else lambda ids: []
        )  # states could not forget what was guessed wrong
        tokens = generate(step, w.ids, w.ends, w.limit, w.choose, guess)
        while w.reason is None:
            with self.lock:
                token = next(tokens, None)
            yield w.push(token)

    def stream(self, prompt, max_tokens=None, lookup=True, **options):
        """Yield Chunks of the text that follows prompt; options as in Writer."""
        yield from self.write(Writer(self, prompt, max_tokens, **options), lookup)

    def generate(self, prompt, max_tokens=None, **options):
        """The text that follows prompt, as one str; options as in Writer."""
        return "".join(chunk.text for chunk in self.stream(prompt, max_tokens, **options))

    def __call__(self, prompt, max_tokens=None, echo=False, **options):
        """As generate, but -> OpenAI's completion object, a dict; with logprobs=N its legacy lists, for the prompt's tokens too
        if echo."""
        w = Writer(self, prompt, max_tokens, **options)
        for _ in self.write(w):
            pass
        text = (prompt if isinstance(prompt, str) else self.detokenize(prompt)) if echo else ""
        value = w.completion(text)
        if echo and w.logprobs is not None:
            self._echo(w.ids[: w.n_prompt], value["choices"][0]["logprobs"], w.logprobs)
        return value

    def _echo(self, ids, lists, n_top):
        """Put the prompt's tokens before those of legacy logprobs lists. The first has nothing before it, so no chance."""
        name, chances = (
            self.tokenizer.name,
            log_softmax(self.logits(ids)[:, : self.tokenizer.n_vocab]),
        )
        best = np.argsort(-chances, kind="stable")[:, :n_top]
        stream = TextStream(self.tokenizer, start=True)
        starts = itertools.accumulate((len(stream.push(i)) for i in ids[:-1]), initial=0)
        lists["tokens"][:0] = map(name, ids)
        lists["token_logprobs"][:0] = [None] + [float(row[i]) for row, i in zip(chances, ids[1:])]
        rows = [
            {name(i): float(row[i]) for i in order}
            for row, order in zip(chances[:-1], best.tolist())
        ]
        lists["top_logprobs"][:0] = [None] + rows
        lists["text_offset"][:0] = starts

    def create_chat_completion(self, messages, max_tokens=None, **options):
        """The answer to a conversation, as OpenAI's chat completion object, a dict; options as in Writer."""
        value = self(self.encode_chat(messages), max_tokens, **options)
        (choice,) = value["choices"]
        choice["message"] = {"role": "assistant", "content": choice.pop("text")}
        return value | {"object": "chat.completion"}

    # many texts at once

    def _places(self, places):
        """A Forward of so many slots, each of the whole context: a spare one, or new."""
        if not 1 <= places <= WANTED_MAX:
            raise ModelError(
                f"{places} texts at once, expected 1 to {WANTED_MAX}; choose less, the others wait"
            )
        for n, forward in enumerate(self.spare):
            if forward.n_slots == places:
                return self.spare.pop(n)
        return self._build(self.n_ctx, places)

    def together(self, writers, places=8):
        """Write many texts at once, the weights read once for all: yields (Writer, Chunk) as they come. writers: any iterable
        of Writers of this model, or None for "not yet"; the next one takes the place of one that ends (Yu et al. 2022). Each
        gets the bits that it would get alone. A beginning that another text has in the cache is copied, and waited for while
        it is being read."""
        forward, writers, more, coming = self._places(places), iter(writers), True, None
        active, fed = {}, [[] for _ in range(places)]
        try:
            while active or more:
                while more and len(active) < places:
                    coming = coming or next(writers, 0)
                    if not coming:
                        more, coming = coming is None, None
                        break
                    known = [self._alike(ids, coming.ids[:-1]) for ids in fed]
                    reading = [
                        (w, self._end(w))
                        for slot, w in active.items()
                        if len(fed[slot]) < self._end(w)
                    ]
                    if any(
                        self._alike(w.ids[:end], coming.ids[:-1]) > max(known) + KEYS
                        for w, end in reading
                    ):
                        break
                    slot = max(set(range(places)) - active.keys(), key=known.__getitem__)
                    source = max(range(places), key=known.__getitem__)
                    if known[source] > known[slot]:
                        forward.copy(source, slot, known[source])
                    fed[slot], active[slot], coming = coming.ids[: known[source]], coming, None
                if active:
                    yield from self._pass(forward, active, fed)
        finally:
            self.spare.append(forward)

    def _alike(self, ids, others):
        """How many of the ids of a cache are of use for others: all that are alike; of states, all or none."""
        n = alike(ids, others)
        return n if not self.recurrent or n == len(ids) else 0

    def _end(self, w):
        """How much of a text is read before it is of use to others; states, before the last token of its prompt."""
        return w.n_prompt - self.recurrent

    def _pass(self, forward, active, fed):
        """One pass over the active {slot: Writer}; fed: for each slot the ids in its cache. -> [(Writer, Chunk)]"""
        tokens, positions, slots, ready, out = [], [], [], {}, []
        for slot, w in sorted(
            active.items(), key=lambda item: len(item[1].ids) - len(fed[item[0]])
        ):  # those who write first
            at = len(fed[slot])
            end = self._end(w) if at < self._end(w) else len(w.ids)
            part = w.ids[at : min(end, at + CHUNK - len(tokens))]
            tokens += part
            positions += range(at, at + len(part))
            slots += [slot] * len(part)
            fed[slot] += part
            if part and len(fed[slot]) == len(w.ids):
                ready[slot] = len(tokens) - 1
        self.playing = forward
        logits = forward(tokens, positions, slots, list(ready.values()))
        for slot, row in zip(ready, logits):
            w = active[slot]
            out.append((w, w.push(w.choose(row) if w.limit else None)))
            if w.reason is None and w.count == w.limit:
                out.append((w, w.push(None)))
            if w.reason:
                del active[slot]
        return out

    def batch(self, prompts, max_tokens=None, places=8, seed=None, **options):
        """The texts that follow prompts (str or ids each), in their order, written together; options as in Writer. The seed of
        each derives from seed and its number."""
        seed = random.getrandbits(32) if seed is None else seed
        writers = [
            Writer(self, p, max_tokens, seed=line_seed(seed, n), **options)
            for n, p in enumerate(prompts)
        ]
        for _ in self.together(writers, max(1, min(places, len(writers)))):
            pass
        return [w.written for w in writers]

    def best_of(self, prompt, n, judge=None, places=8, seed=None, **options):
        """n texts that follow prompt, written together -> their finished Writers, best first, with .worth: what judge(text)
        says, or else the mean log-probability of its tokens."""
        options["logprobs"] = options.get("logprobs") or 0
        seed = random.getrandbits(32) if seed is None else seed
        writers = [
            Writer(self, prompt, seed=seed if i == 0 else line_seed(seed, i), **options)
            for i in range(n)
        ]
        for _ in self.together(writers, min(places, n)):
            pass
        for w in writers:
            said = [c.logprob for c in w.chunks if c.token is not None]
            w.worth = judge(w.written) if judge else sum(said) / len(said) if said else -math.inf
        return sorted(writers, key=lambda w: -w.worth)

    # given texts

    def score(self, ids, first=1):
        """Log-probabilities (natural) of ids[first:], each after all those before it -> float64 array, bool array: was it the
        likeliest of all."""
        ids, chances, greedy = list(ids), [], []
        self._check(ids[:-1] or ids)  # the last is never read
        with self.lock:
            self._open(len(ids))
            for at in range(first, len(ids), WANTED_MAX):
                part = np.array(ids[at : at + WANTED_MAX])
                rows = self._step(ids, ids[: at + len(part) - 1], 0, len(part))
                if not np.isfinite(rows).all():
                    raise self.not_finite(at + int(np.isfinite(rows).all(1).argmin()))
                chances.append(np.take_along_axis(log_softmax(rows), part[:, None], 1)[:, 0])
                greedy.append(rows.argmax(1) == part)
        return np.concatenate(chances or [np.zeros(0)]), np.concatenate(
            greedy or [np.zeros(0, bool)]
        )

    def loglikelihood(self, context, continuation):
        """-> (log-probability of continuation after context, whether greedy sampling would write it). str or ids both. White
        space at the end of context counts to the continuation, as in lm-evaluation-harness."""
        if isinstance(context, str):
            text = context.rstrip()
            whole, first = (
                self.tokenize(self.short(context + continuation)),
                len(self.tokenize(text)),
            )
            if not text and not first:
                whole, first = [self._begin(), *whole], 1
            first = min(first, len(whole) - 1) if continuation or text != context else len(whole)
        else:
            context = list(context) or [self._begin()]
            whole, first = context + list(continuation), len(context)
        chances, greedy = self.score(whole, first)
        return float(chances.sum()), bool(greedy.all())

    def _begin(self):
        """The token that stands before a text's first: begin, or else end."""
        t = self._need_tokenizer()
        found = t.bos if t.bos is not None else t.eos
        if found is None:
            raise ModelError(
                f"{self.name}: no begin and no end token, expected one; give a context"
            )
        return found

    def loglikelihood_rolling(self, text):
        """Log-probability of a whole text (str or ids, of any length), each token once, in windows of the context, the last one
        full too, as in lm-evaluation-harness."""
        ids = [
            self._begin(),
            *(self.tokenize(text, add_bos=False) if isinstance(text, str) else text),
        ]
        ends = range(self.n_ctx + 1, len(ids) + self.n_ctx, self.n_ctx)
        spans = [
            (max(0, min(end, len(ids)) - self.n_ctx - 1), end - self.n_ctx, end) for end in ends
        ]
        return sum(
            float(self.score(ids[start:end], first - start)[0].sum()) for start, first, end in spans
        )

    def perplexity(self, text, n_ctx=512, on_window=lambda done, windows, ppl: None):
        """As llama.cpp's llama-perplexity: windows of n_ctx tokens side by side, the second half of each scored -> dict of
        perplexity, error (its standard error), bits_per_byte, tokens (scored), windows, n_ctx."""
        ids, n, t = self.tokenize(text), min(n_ctx, self.n_ctx), self.tokenizer
        if len(ids) < 2 * n:
            raise ModelError(
                f"perplexity: {len(ids)} tokens, expected {2 * n} or more (two windows); give more text, or -c"
            )
        nats, n_bytes, windows = [], 0, len(ids) // n
        for i in range(windows):
            part = ids[i * n : (i + 1) * n]
            if t.flags & ADD_BOS and t.bos is not None:
                part[0] = t.bos
            nats += (-self.score(part, n // 2 + 1)[0]).tolist()
            n_bytes += sum(len(t.piece(token)) for token in part[n // 2 + 1 :])
            on_window(i + 1, windows, math.exp(np.mean(nats)))
        mean, count = np.mean(nats), len(nats)
        error = math.sqrt(max(0.0, (np.mean(np.square(nats)) - mean**2) / (count - 1)))
        found = {
            "perplexity": math.exp(mean),
            "error": error * math.exp(mean),
            "tokens": count,
            "windows": windows,
            "n_ctx": n,
        }
        return {**found, "bits_per_byte": sum(nats) / math.log(2) / n_bytes}

    # the cache on disk

    def save_cache(self, path, n=None):
        """Keep what layers know of what was read and written, or of its first n ids, in a file, for load_cache; where there are
        states, of as many ids as they were kept for."""
        fed, states = (
            (self.fed[: self.kept[0]], self.kept[1]) if self.recurrent else (self.fed[:n], [])
        )
        states = states or list(self.forward.state(0))
        parts = [np.array(fed, "<u4"), *self.forward.cached(0, len(fed)), *states]
        parts = [part.tobytes() for part in parts]
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        kind = 4 if self.kv == "f32" else 2
        head = CACHE_HEADER.pack(
            CACHE_MAGIC, VERSION, kind, len(fed), bytes.fromhex(self.file.model_id), digest.digest()
        )
        temporary = f"{path}.{os.getpid()}.tmp"
        try:
            with open(temporary, "wb") as f:
                for part in (head, *parts):
                    f.write(part)
            os.replace(temporary, path)
        except OSError as e:
            where = printable(str(path))
            raise ModelError(
                f"{where}: cannot be written ({e.strerror}); expected room for it; choose another"
            ) from None
        finally:
            if os.path.exists(temporary):
                os.remove(temporary)

    def load_cache(self, path, ids):
        """Take from a file of save_cache what it has of the beginning of ids -> how many positions. 0 if there is no such file,
        or it is of another model or cut or changed, which it says; ModelError if it is no such file at all."""
        if not os.path.exists(path) or not os.path.getsize(path):
            return 0
        most = CACHE_HEADER.size + 4 * self.config.max_ctx + self._cache_bytes(self.config.max_ctx)
        where, raw = (
            printable(str(path)),
            np.frombuffer(read_small(path, "a prompt cache", most), np.uint8),
        )
        head = raw[: CACHE_HEADER.size].tobytes()
        if head[:8] != CACHE_MAGIC:
            raise ModelError(
                f"{where}: starts with {head[:8]!r}, expected a prompt cache; give another name, it would be lost"
            )
        kind, at, n, digest = 4 if self.kv == "f32" else 2, CACHE_HEADER.size, 0, b""
        if len(head) == at:
            _, version, found_kind, n, model_id, digest = CACHE_HEADER.unpack(head)
        if (
            len(raw) != at + 4 * n + self._cache_bytes(n)
            or hashlib.sha256(raw[at:]).digest() != digest
        ):
            self.notice(f"{where}: cut short or damaged; the prompt is read again")
            return 0
        if (version, found_kind, model_id.hex()) != (VERSION, kind, self.file.model_id):
            self.notice(f"{where}: of another model or type of cache; the prompt is read again")
            return 0
        same = self._alike(
            raw[at : at + 4 * n].view("<u4").tolist(), ids[:-1] if self.recurrent else ids
        )
        room, at = padded(n, KEYS), at + 4 * n
        with self.lock:
            self._open(len(ids))
            self.fed = []
            for part in self.forward.cached(0, same):
                heads, length, width = part.shape
                part[:] = raw[at : at + heads * room * width].reshape(heads, room, width)[
                    :, :length
                ]
                at += heads * room * width
            for part in self.forward.state(0):
                part[:] = raw[at : at + len(part)]
                at += len(part)
            self.fed, self.owner = ids[:same], None
            self._keep()
        return same
