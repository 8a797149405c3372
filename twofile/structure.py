"""Texts of a form: which tokens may come next, by a schema or a grammar."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .errors import ModelError, WrongType, WrongValue, printable, set_by, shown
from .plain import json_part
from .tokenizer.file import SPM

KEPT = 16  # forms that stay compiled
ANY_OBJECT = {"type": "object"}
STYLE = {  # JSON as Python's json.dumps writes it: most of what is between values is certain
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "coerce_one_of": False,
    "lenient": False,
}


def form_asked(schema=None, regex=None, grammar=None, response_format=None):
    """The form that a text is to have -> (the option that says so, its text), or None. Raises
    ModelError."""
    asked = {"schema": schema, "regex": regex, "grammar": grammar}
    asked["response_format"] = response_schema(response_format)
    given = [(name, value) for name, value in asked.items() if value is not None]
    if len(given) > 1:
        names = " and ".join(name for name, _ in given)
        raise WrongValue(f"{names}: expected one form of the text; leave the others out")
    for name, value in given:
        if name not in ("regex", "grammar"):
            value = schema_text(name, value)
        elif not isinstance(value, str) or not value.strip():
            wants = {"regex": "a regular expression", "grammar": "a Lark or GBNF grammar"}[name]
            wrong = WrongValue if isinstance(value, str) else WrongType
            raise wrong(f"{name} is {shown(value)}, expected {wants}, a text; give one")
        return name, value
    return None


def response_schema(value):
    """The schema that OpenAI's response_format asks for, or None."""
    if value is None:
        return None
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind == "json_object":
        return value.get("schema") or ANY_OBJECT  # llama.cpp's servers have one there
    inside = value.get("json_schema") if kind == "json_schema" else None
    if isinstance(inside, Mapping) and inside.get("schema") is not None:
        return inside["schema"]
    if kind == "text":
        return None
    wants = "type text, json_object, or json_schema with a schema in json_schema"
    raise (WrongValue if isinstance(value, Mapping) else WrongType)(
        f"response_format is {shown(value)}, expected {wants}; give such"
    )


def schema_text(name, value):
    """A JSON schema, as an object or as JSON, or true or {} for any object -> JSON. Raises
    ModelError, by name."""
    import json

    wants = "a JSON schema: an object, its JSON, or true for any object"
    if isinstance(value, (bytes, bytearray)):
        raise WrongType(f"{name} is {shown(value)}, expected {wants}; decode it")
    try:
        found = json.loads(value) if isinstance(value, str) else value
        found = ANY_OBJECT if found is True or found == {} else found
        text = json.dumps(found, default=json_part)
    except (TypeError, ValueError, RecursionError) as e:
        raise WrongValue(f"{name}: {printable(str(e)[:120])}, expected {wants}; mend it") from None
    if not isinstance(found, Mapping):
        raise WrongType(f"{name} is {shown(value)}, expected {wants}; give such")
    return text


class Vocabulary:
    """A Tokenizer's tokens, as llguidance asks for them: only those that are text can match one;
    the end is a token of its own, behind the last. text: which are, bool [n_vocab + 1]."""

    is_tokenizer_wrapper, bos_token_id = True, None

    def __init__(self, tokenizer):
        n = self.eos_token_id = tokenizer.n_vocab
        self.tokenizer, pieces = tokenizer, [tokenizer.piece(i) for i in range(n)]
        odd = {*tokenizer.stops, *[tokenizer.unk] * (tokenizer.kind == SPM)}
        # no text has a byte of 255, which there marks what is special
        self.tokens = [*pieces, b""]
        text = [bool(p) and p[0] != 255 and i not in odd for i, p in enumerate(self.tokens)]
        self.text = np.array(text)
        self.special_token_ids = np.flatnonzero(~self.text).tolist()
        for i in self.special_token_ids:
            self.tokens[i] = b"%d" % i

    def __call__(self, text):
        """The ids of a text, those that encode would give it inside of another; none where they
        would not be that text."""
        t, ids = self.tokenizer, []
        for word in t.words(text):
            ids += t.merger.ids_of(word)
        same = b"".join(self.tokens[i] for i in ids) == text.encode()
        return ids if same and self.text[ids].all() else []


class Forms:
    """The forms that texts may be asked to have, compiled once each for a Tokenizer, or None."""

    def __init__(self, tokenizer):
        self.tokenizer, self.compiled, self.vocabulary, self.known = tokenizer, {}, None, None

    def structure(self, asked, banned=(), named=()):
        """The Structure of what form_asked() says, without the ids of banned. named: ids that the
        form itself names, of control tokens too. Raises ModelError if it is no form, or one that no
        text has."""
        if asked is None:
            return None
        matcher = self.compiled.get(asked)
        if matcher is None:
            matcher = self.compile(*asked)
            if len(self.compiled) >= KEPT:
                self.compiled.clear()
            self.compiled[asked] = matcher
        text = self.vocabulary.text.copy()
        text[[*named]] = True
        text[[*banned]] = False
        return Structure(asked[0], matcher.deep_copy(), text)

    def compile(self, name, text):
        """A form as llguidance's LLMatcher. Raises ModelError."""
        if self.tokenizer is None:
            found = f"{name}: this model was exported without a tokenizer"
            wants = "expected one to know its tokens' text"
            raise WrongValue(f"{found}, {wants}; name it with {set_by('tokenizer')}")
        try:
            import llguidance
        except ImportError:
            raise ModelError(
                f"{name}: the package llguidance is not there, expected it for texts of a form; "
                'pip install "twofile[structure]"'
            ) from None
        if self.known is None:
            self.vocabulary = Vocabulary(self.tokenizer)
            self.known = llguidance.LLTokenizer(self.vocabulary)
        make = llguidance.LLMatcher
        try:
            if name == "regex":
                form = make.grammar_from_regex(text)
            elif name in ("grammar", "tools"):
                form = llguidance.grammar_from("grammar", text)
            else:
                form = make.grammar_from_json_schema(text, overrides=STYLE)
            limits = llguidance.LLParserLimits(verbose_errors=False)
            matcher = make(self.known, form, log_level=0, limits=limits)
            found = matcher.get_error()
        except Exception as e:
            found = str(e) or type(e).__name__
        if found:
            raise refused(name, found)
        return matcher


def refused(name, found):
    """The ModelError for a form, by what llguidance found in it."""
    if name == "tools":
        found = re.sub(r" \d+ \| .*", "", found)  # lines of a grammar of our own
    found = found.split("<state>")[0].replace("<non-verbose/>", "")
    found = printable(" ".join(found.replace("NoExtensionBias", "no text has it").split())[:200])
    return WrongValue(f"{name}: {found}; expected a form that a text can have; change it")


class Structure:
    """What may come next in a text of a form, by an LLMatcher. text: which ids may be written at
    all, bool [n_vocab + 1].

    Attributes: forced (ids that come next, whatever is likely), complete (nothing can follow).
    """

    forced: list[int]
    complete: bool

    def __init__(self, name: str, matcher: Any, text: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
        self.name, self.matcher = name, matcher
        self.n, words = len(text) - 1, -(-len(text) // 32)
        self.text, self.bits = np.zeros((2, 4 * words), np.uint8)
        packed = np.packbits(text, bitorder="little")
        self.text[: len(packed)] = packed
        self.look()

    def look(self):
        """What is certain to come next."""
        self.complete = self.matcher.is_stopped()
        self.forced = [] if self.complete else self.matcher.compute_ff_tokens()
        for at, i in enumerate(self.forced):
            if not self.text[i >> 3] >> (i & 7) & 1:
                del self.forced[at:]
                break
        self.check()

    def check(self):
        if self.matcher.is_error():
            raise refused(self.name, self.matcher.get_error())

    def allowed(self, ends: Iterable[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The ids that may come next, in their order, with those of ends if the text may end here;
        none if it has to. Raises ModelError if nothing goes on."""
        if self.forced or self.complete:
            return np.array(self.forced[:1], np.int64)
        self.matcher.unsafe_compute_mask_ptr(self.bits.ctypes.data, self.bits.nbytes)
        self.check()
        may_end = self.bits[self.n >> 3] >> (self.n & 7) & 1
        mask = np.unpackbits(self.bits & self.text, count=self.n, bitorder="little")
        if may_end:
            mask[[*ends]] = 1
        ids = np.flatnonzero(mask)
        if not len(ids) and not may_end:
            raise refused(self.name, "no token goes on here, or those that do are banned")
        return ids

    def commit(self, token: int) -> None:
        """A token was written."""
        if not self.matcher.consume_token(token):
            self.check()
        del self.forced[:1]
        if not self.forced:
            self.look()
