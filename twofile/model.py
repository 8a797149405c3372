"""What a program imports: text in, text out."""

from .engine import Engine
from .errors import printable, say
from .guess import line_seed
from .logprobs import put_prompt_first
from .machine import total_memory
from .modelfile import about, check_id, open_model, sampling_said
from .options import likeliest_asked, places_asked, run_seed, texts_asked, whole_number
from .prompts import Prompts, whole_ids
from .sampler import Sampler
from .scores import Scores
from .session import Session, load_session, save_session
from .together import best_first, write_together
from .tokenizer.tokenizer import find_tokenizer
from .writer import Writer


class Model:
    """A model file ready to run. Maps the file; the first forward loads or compiles the kernels.

    path: model.bin. tokenizer: a tokenizer.bin; None = the one inside the model file, or
    tokenizer.bin beside it. n_ctx: positions of the KV cache, 0 = the model's. n_threads: None =
    the cores this process may use, fewer while they are held up. kv: the cache's type, "f16", "f32"
    or "q8_0"; None = f32 for f32 models, else f16.
    verbose: notices (compiling, cache) on stderr. id: the model id that the file must have, 64 hex
    digits or the first 16 or more; then every tensor is compared with its SHA-256 too.
    Raises ModelError with a message in four parts: which file, what was found, what was expected,
    what to do.
    Attributes: file (of open_model), config, name (for messages), tokenizer (or None), sampling
    (what the file says of it), n_ctx, n_threads, kv, notice, lock (held during a token).
    """

    def __init__(
        self, path, tokenizer=None, n_ctx=0, n_threads=None, kv=None, verbose=True, id=None
    ):
        self.settings = {
            "path": path,
            "tokenizer": tokenizer,
            "n_ctx": n_ctx,
            "n_threads": n_threads,
            "kv": kv,
            "verbose": verbose,
            "id": id,
        }
        self.file, self.name = open_model(path), printable(str(path))
        if id is not None:
            check_id(self.file, id)
        self.config, self.sampling = self.file.config, sampling_said(self.file.config)
        self.notice = say if verbose else lambda text: None
        self.engine = Engine(self.file, n_ctx, n_threads, kv, self.notice)
        self.n_threads, self.kv = self.engine.threads, self.engine.kv
        self.tokenizer = find_tokenizer(self.file, tokenizer)
        self.prompts, self.session = Prompts(self.engine, self.tokenizer), Session(self.engine)
        self.scores = Scores(self.session, self.prompts)
        self.fit(1)
        if self.file.size > total_memory():
            size = f"({self.file.size:,} bytes)"
            self.notice(
                f"{self.name} is larger than memory {size}: it runs at the speed of the disk"
            )

    def __getstate__(self):
        return self.settings

    def __setstate__(self, settings):
        self.__init__(**settings)

    @property
    def n_ctx(self):
        """Most positions of a text."""
        return self.engine.n_ctx

    @property
    def forward(self):
        """The Forward of one text, None before it is ready()."""
        return self.session.forward

    @property
    def fed(self):
        """The ids whose keys and values are in the cache."""
        return self.session.fed

    @property
    def lock(self):
        """Held while the cache is read or written: threads take turns, token by token."""
        return self.session.lock

    @property
    def info(self):
        """What the file says of itself, as a dict of plain values."""
        return about(self.file, self.n_ctx, self.cache_bytes(self.n_ctx), self.tokenizer)

    @property
    def ends(self):
        """The ids that end a text, a set."""
        return set(self.tokenizer.stops) if self.tokenizer else {self.config.eos}

    def ready(self, n_ctx):
        """The Forward of one text, of at least n_ctx positions; loads or compiles the kernels."""
        return self.session.ready(n_ctx)

    def cache_bytes(self, n_ctx):
        """What the cache of one text of so many positions takes, in bytes."""
        return self.engine.cache_bytes(n_ctx)

    def fit(self, places):
        """Unless a context was asked for: the model's, halved until the cache of so many texts
        takes half of memory."""
        self.engine.fit(places)

    def sampler(self, how):
        """A Sampler of this vocabulary, once a forward has run. how: Sampling."""
        return Sampler(how, self.prompts.n_vocab, self.engine.playing.code)

    def not_finite(self, position):
        """The ModelError for logits at that position, of the pass before, that are no numbers."""
        return self.session.not_finite(position)

    # text and ids

    def need_tokenizer(self):
        """The tokenizer; ModelError if there is none."""
        return self.prompts.need_tokenizer()

    def short(self, text):
        """text, if it could fit into the context: what its length alone rules out is refused before
        it costs time or room."""
        return self.prompts.short(text)

    def tokenize(self, text, add_bos=True):
        """-> ids; with the begin token if the model has one and add_bos."""
        return self.prompts.tokenize(text, add_bos)

    def encode_chat(self, messages):
        """[{"role", "content"}] -> ids up to where the assistant begins; see
        Tokenizer.encode_chat."""
        return self.prompts.conversation(messages)

    def prompt(self, given):
        """str or ids -> ids; ModelError if they do not fit."""
        return self.prompts.prompt(given)

    def detokenize(self, ids):
        """-> str"""
        return self.need_tokenizer().decode(whole_ids(ids))

    # one text

    def logits(self, ids):
        """float32 [len(ids), vocab_size]: row i is the model's opinion of what follows
        ids[: i + 1]."""
        return self.session.logits(self.prompts.check(ids))

    def write(self, w, lookup=True):
        """Yield the Chunks of a Writer as they are made. lookup: guess what repeats; changes the
        speed, nothing else."""
        return self.session.write(w, lookup)

    def stream(self, prompt, max_tokens=None, lookup=True, **options):
        """Yield Chunks of the text that follows prompt; options as in Writer."""
        yield from self.write(Writer(self, prompt, max_tokens, **options), lookup)

    def generate(self, prompt, max_tokens=None, **options):
        """The text that follows prompt, as one str; options as in Writer."""
        return "".join(chunk.text for chunk in self.stream(prompt, max_tokens, **options))

    def __call__(self, prompt, max_tokens=None, echo=False, **options):
        """As generate, but -> OpenAI's completion object, a dict; with logprobs=N its legacy lists,
        for the prompt's tokens too if echo."""
        w = Writer(self, prompt, max_tokens, **options)
        list(self.write(w))
        text = (prompt if isinstance(prompt, str) else self.detokenize(prompt)) if echo else ""
        value = w.completion(text)
        if echo and w.logprobs is not None:
            ids, lists = w.ids[: w.n_prompt], value["choices"][0]["logprobs"]
            put_prompt_first(lists, ids, self.logits(ids), w.logprobs, self.tokenizer)
        return value

    def create_chat_completion(
        self, messages, max_tokens=None, logprobs=None, top_logprobs=None, **options
    ):
        """The answer to a conversation, as OpenAI's chat completion object, a dict; options as in
        Writer. logprobs: true, with how many of the likeliest tokens in top_logprobs; or that."""
        ids, n = self.encode_chat(messages), likeliest_asked(logprobs, top_logprobs)
        w = Writer(self, ids, max_tokens, logprobs=n, **options)
        list(self.write(w))
        return w.chat_completion()

    def save_cache(self, path, n=None):
        """Keep what layers know of what was read and written, or of its first n ids, in a file, for
        load_cache; where there are states, of as many ids as they were kept for."""
        save_session(self.session, path, n)

    def load_cache(self, path, ids):
        """Take from a file of save_cache what it has of the beginning of ids -> how many positions.
        0 if there is no such file, or it is of another model or cut or changed, which it says;
        ModelError if it is no such file at all."""
        return load_session(self.session, path, ids)

    # many texts at once

    def together(self, writers, places=8):
        """Write many texts at once, the weights read once for all: yields (Writer, Chunk) as they
        come. writers: any iterable of Writers of this model, or None for "not yet"; the next one
        takes the place of one that ends (Yu et al. 2022). Each gets the bits that it would get
        alone. A beginning that another text has in the cache is copied, and waited for while it is
        being read."""
        return write_together(self.engine, writers, places)

    def batch(self, prompts, max_tokens=None, places=8, seed=None, **options):
        """The texts that follow prompts (str or ids each), in their order, written together;
        options as in Writer. The seed of each derives from seed and its number."""
        places, seed = places_asked(places), run_seed(seed)
        writers = [
            Writer(self, p, max_tokens, seed=line_seed(seed, n), **options)
            for n, p in enumerate(texts_asked(prompts))
        ]
        list(self.together(writers, max(1, min(places, len(writers)))))
        return [w.written for w in writers]

    def best_of(self, prompt, n, judge=None, places=8, seed=None, **options):
        """n texts that follow prompt, written together -> their finished Writers, best first, with
        .worth: what judge(text) says, or else the mean log-probability of its tokens."""
        if options.get("logprobs") in (None, False):
            options["logprobs"] = 0
        n = whole_number("n", n, 1, "how many texts, 1 or more")
        places, seed = places_asked(places), run_seed(seed)
        writers = [
            Writer(self, prompt, seed=seed if i == 0 else line_seed(seed, i), **options)
            for i in range(n)
        ]
        list(self.together(writers, min(places, n)))
        return best_first(writers, judge)

    # given texts

    def score(self, ids, first=1):
        """Log-probabilities (natural) of ids[first:], each after all those before it -> float64
        array, bool array: was it the likeliest of all. As those that Writers tell: normalised over
        the tokens that can be written."""
        return self.scores.score(ids, first)

    def loglikelihood(self, context, continuation):
        """-> (log-probability of continuation after context, whether greedy sampling would write
        it). str or ids both. White space at the end of context counts to the continuation, as in
        lm-evaluation-harness."""
        return self.scores.loglikelihood(context, continuation)

    def loglikelihood_rolling(self, text):
        """Log-probability of a whole text (str or ids, of any length), each token once, in windows
        of the context, the last one full too, as in lm-evaluation-harness."""
        return self.scores.rolling(text, self.n_ctx)

    def perplexity(self, text, n_ctx=512, on_window=lambda done, windows, ppl: None):
        """As llama.cpp's llama-perplexity: windows of n_ctx tokens side by side, the second half of
        each scored -> dict of perplexity, error (its standard error), bits_per_byte, tokens
        (scored), windows, n_ctx."""
        n = whole_number("n_ctx", n_ctx, 2, "a number of tokens, 2 or more")
        return self.scores.perplexity(text, min(n, self.n_ctx), on_window)
