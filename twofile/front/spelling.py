"""The words of a command line, told for what they are."""

import re

from ..errors import printable, shown
from ..options import nearest
from .habits import MEANT

PLAIN_NUMBER = re.compile(r"-?\.?\d[\d.,]*")
LIKE_A_FLAG = re.compile(r"-[^.\d]")


def apart(argv, flags, error, others):
    """-> (the words of a command line that are flags, with their values, as argparse takes them;
    the others). A number may be glued to its flag, as in -n20; whatever else is glued is refused by
    error(text), as what is no flag, and a flag of others, {flag: what to do}.

    flags: those that are known, [Flag].
    """
    names = {name: flag for flag in flags for name in flag.names if name[0] == "-"}
    words, plain, rest = [], [], list(argv)
    while rest:
        word = rest.pop(0)
        said, equals, value = word.partition("=")
        name = MEANT.get(said, said)
        flag = names.get(name)
        if word == "--":
            return words, plain + rest
        if word in ("-h", "--help"):
            words.append(word)
        elif flag and equals:
            words.append(f"{name}={said_value(flag, said, value, error)}")
        elif flag:
            words += [name] if not flag.takes else with_value(flag, said, name, rest, error)
        elif said in others:
            error(f"{said} is {others[said]}")
        elif word.startswith("--"):
            hint = likely(said, names)
            error(f"{printable(said[:80])} is no flag, expected one of --help; {hint}")
        elif LIKE_A_FLAG.match(word):
            rest = unglued(word, names, error, others) + rest
        else:
            plain.append(word)
    return words, plain


def with_value(flag, said, name, rest, error):
    """A flag and its values, off the rest of a command line -> words for argparse."""
    found = []
    while rest and (flag.dashed or not LIKE_A_FLAG.match(rest[0])):
        found.append(said_value(flag, said, rest.pop(0), error))
        if not flag.several:
            break
    if not found:
        wants = flag.how.get("metavar") or "one of " + ", ".join(flag.how["choices"])
        error(f"{said} has no value, expected {wants} behind it; give one")
    return [name, *found] if flag.several else [f"{name}={found[0]}"]


def said_value(flag, said, value, error):
    """A value of a flag, if it is one."""
    if not flag.takes:
        error(f"{said} is {shown(value)}, expected no value; write {said} alone")
    wants = flag.lacking(value)
    if wants:
        error(f"{said} is {shown(value)}, expected {wants}; change it")
    return value


def likely(said, names):
    """What to do about a long name that is none of names, nor of MEANT."""
    means = {name: name for name in names} | MEANT
    near = nearest(said, [name for name in means if name[:2] == "--" and means[name] in names])
    return f"did you mean {means[near]}?" if near else "leave it out"


def unglued(word, names, error, others):
    """The words that a short flag with something glued to it stands for: flag and number."""
    theirs = next((n for n in others if PLAIN_NUMBER.fullmatch(word.removeprefix(n))), None)
    flag = max((n for n in names if n[1] != "-" and word.startswith(n)), key=len, default=None)
    if theirs and len(theirs) > len(flag or ""):
        error(f"{theirs} is {others[theirs]}")
    value = word[len(flag or "") :]
    if flag and names[flag].numeric and PLAIN_NUMBER.fullmatch(value):
        return [flag, value]
    known = f"-{word}" if f"-{word}" in (*names, *MEANT, "--help") else flag
    wants = f"expected {known}" if known else "expected one of --help"
    if known == flag and flag and names[flag].takes:
        wants += f" and a space before its value {printable(value[:40])!r}"
    error(f"{printable(word[:80])} is no flag, {wants}; write it so, or leave it out")
