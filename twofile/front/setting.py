"""What /set changes: how answers are written, by the names of the flags."""

import random
import re
import shlex

from ..errors import ModelError, shown
from ..options import bias_asked, bias_pair, nearest, seed_asked, stop_strings
from ..sampler import RULES
from .common import HOW, IGNORE_EOS, LOGIT_BIAS, N_PREDICT, SEED, STOP
from .habits import MEANT, PROCESSOR
from .text import tame, unescaped

SETTABLE = [*(flag for flag in HOW.flags if flag is not ...), N_PREDICT, STOP, IGNORE_EOS]
ANEW = "default"  # the value of what is as if it had never been set


def bare(name):
    """A name of a flag as it may be typed: without dashes before it, in any case."""
    return name.lstrip("-").replace("_", "-").lower()


SET_NAMES = {bare(n): flag for flag in SETTABLE for n in (*flag.names, flag.field)}
SET_NAMES |= {bare(n): SET_NAMES[bare(m)] for n, m in MEANT.items() if bare(m) in SET_NAMES}
SET_NAMES |= {"num-predict": N_PREDICT}
SET_OTHERWISE = {  # what ollama sets in a conversation
    "num-ctx": "the context is -c N, where the conversation begins",
    "num-thread": "the threads are -t N, where the conversation begins",
    "num-gpu": PROCESSOR,
    "format": "a form is --json-schema FILE, where the conversation begins",
    **dict.fromkeys(("verbose", "quiet"), "/stats tells the speed"),
    **dict.fromkeys(("history", "nohistory"), "what is typed is kept, unless a space is before it"),
    **dict.fromkeys(("wordwrap", "nowordwrap"), "lines are broken at the width of the terminal"),
}


def words_of(text):
    """Words, in quotes if there are spaces in them; \\n is a newline. Raises ModelError."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.escape, lexer.commenters = True, "", ""
    try:
        return [unescaped(word) for word in lexer]
    except ValueError:
        raise ModelError(f"{shown(text)} lacks a closing quote") from None


class Setting:
    """What a Conversation goes by, with the Settings of its command line."""

    def __init__(self, talk, args):
        self.talk, self.args = talk, args

    def __call__(self, text):
        """ "NAME VALUE", or a name alone, or nothing -> what is told. Raises ModelError for what is
        wrong, which changes nothing."""
        name, value = re.fullmatch(r"([^\s=]*)\s*=?\s*(.*)", text, re.S).groups()
        flag = SET_NAMES.get(bare(name))
        if not name:
            return "".join(f"{bare(f.long):18} {self.present(f)}\n" for f in SETTABLE)
        if bare(name) in SET_OTHERWISE:
            raise ModelError(f"/set: {name} is ollama's; {SET_OTHERWISE[bare(name)]}")
        if flag is None:
            near = nearest(bare(name), SET_NAMES)
            hint = f"did you mean {near}? " if near else ""
            raise ModelError(f"/set: {shown(name)} is no setting; {hint}/set lists them")
        if value:
            self.change(flag, None if value == ANEW else value)
        return f"{bare(flag.long)} is {self.present(flag)}\n"

    def change(self, flag, value):
        """Set what a flag sets; None as if it was never set. Raises ModelError."""
        args, name, number = self.args, bare(flag.long), None
        if flag is IGNORE_EOS:
            if value not in (None, "on", "off"):
                raise ModelError(f"/set: {name} is {shown(value)}, expected on or off")
            args.ignore_eos = value == "on"
        elif flag is STOP:
            args.stop = stop_strings(words_of(value or ""))
        elif flag is LOGIT_BIAS:
            pairs = [bias_pair(word, name) for word in words_of(value or "")]
            bias_asked(pairs, self.talk.model.prompts.n_vocab)
            args.logit_bias = pairs
        else:
            if value is not None:
                wants = flag.lacking(value)
                number = None if wants else flag.how["type"](value)
                rule = next((rule for rule in RULES if rule.name == flag.field), flag)
                if wants or not rule.least <= number <= rule.most:
                    wants = wants or flag.means or f"{rule.least} to {rule.most}"
                    raise ModelError(f"/set: {name} is {shown(value)}, expected {wants}")
            self.number(flag, number)

    def number(self, flag, number):
        """Set a number that its flag could have, or None."""
        args = self.args
        if flag is SEED:
            seed = args.seed if number is None else seed_asked(number)
            self.talk.seed = random.getrandbits(32) if seed is None else seed
            self.talk.turns = 0  # the next answer is the first one of this seed
        elif flag is N_PREDICT:
            args.n_predict = -1 if number is None else number
        else:
            how = {key: x for key, x in args.how.items() if key != flag.field}
            args.how = how | ({} if number is None else {flag.field: number})

    def present(self, flag):
        """What a flag's setting is, in words."""
        args, usual = self.args, self.talk.model.sampling
        if flag is SEED:
            return f"{self.talk.seed}"
        if flag is N_PREDICT:
            return "-1 (until the end)" if args.n_predict < 0 else f"{args.n_predict}"
        if flag is IGNORE_EOS:
            return "on" if args.ignore_eos else "off"
        if flag is STOP:
            return tame(" ".join(map(repr, args.stop))) or "none"
        if flag is LOGIT_BIAS:
            return " ".join(f"{i}{by:+g}" for i, by in args.logit_bias) or "none"
        if flag.field in args.how:
            return f"{args.how[flag.field]}"
        (rule,) = (rule for rule in RULES if rule.name == flag.field)
        number, whose = usual.get(flag.field), "the model's"
        return f"{rule.default} (default)" if number is None else f"{number} ({whose})"

    def changed(self):
        """The settings that are not as they would be without a word, in one line."""
        told = {flag: self.present(flag) for flag in SETTABLE}
        usual = ("(default)", "(the model's)", "(until the end)", "none", "off")
        kept = [f"{bare(f.long)} {text}" for f, text in told.items() if not text.endswith(usual)]
        return ", ".join(kept)
