"""What a user gives becomes ids that fit."""

from .errors import ModelError


class Prompts:
    """Texts, ids and conversations for an Engine's model. tokenizer: None for ids alone.

    Everything here raises ModelError for what does not fit, or needs a tokenizer that is not there.
    """

    def __init__(self, engine, tokenizer):
        self.engine, self.tokenizer = engine, tokenizer

    def need_tokenizer(self):
        """The tokenizer, or a ModelError."""
        if self.tokenizer is None:
            raise ModelError(
                f"{self.engine.name}: exported without a tokenizer; "
                "expected one to read text; give ids, or -z FILE"
            )
        return self.tokenizer

    def short(self, text):
        """text, if it could fit into the context: what its length alone rules out is refused before
        it costs time or room."""
        longest, n_ctx = self.need_tokenizer().longest, self.engine.n_ctx
        least = -(-len(text) // longest) if longest else 1
        if least > n_ctx:
            found = f"prompt: {len(text):,} characters, {least:,} tokens or more"
            raise ModelError(f"{found}, expected 1 to {n_ctx}; shorten it, or raise -c")
        return text

    def tokenize(self, text, add_bos=True):
        """text -> ids, of any length."""
        return self.need_tokenizer().encode(text, add_bos)

    def conversation(self, messages):
        """[{"role", "content"}] -> ids up to where the assistant begins."""
        for m in messages if isinstance(messages, list) else ():
            if isinstance(m, dict) and isinstance(m.get("content"), str):
                self.short(m["content"])
        return self.need_tokenizer().encode_chat(messages)

    def prompt(self, given):
        """str or ids -> ids, at least one and no more than the context has room for."""
        return self.check(self.tokenize(self.short(given)) if isinstance(given, str) else given)

    def check(self, ids):
        """ids as a list of int."""
        ids, n_ctx = [int(i) for i in ids], self.engine.n_ctx
        n_vocab = self.engine.file.config.vocab_size
        wrong = [i for i in ids if not 0 <= i < n_vocab]
        if not ids or wrong or len(ids) > n_ctx:
            found = f"id {wrong[0]}" if wrong else f"{len(ids)} tokens"
            wants = f"expected 1 to {n_ctx} ids below {n_vocab}"
            raise ModelError(f"prompt: {found}, {wants}; shorten it, or raise -c")
        return ids

    def begin(self):
        """The token that stands before a text's first: begin, or else end."""
        t = self.need_tokenizer()
        found = t.bos if t.bos is not None else t.eos
        if found is None:
            what = f"{self.engine.name}: no begin and no end token"
            raise ModelError(f"{what}, expected one; give a context")
        return found
