"""A question becomes a search, whatever it holds; the search finds passages."""

import re

from .passages import Passage
from .store import UNSPACED, spaced

LOOKED_AT = 4_000  # characters, of each end of a question
MOST_WORDS = 48  # of a question that are searched for
HITS_WEIGH = "1.0, 2.0, 1.0"  # of a word in a file's name, in a heading, in a text
NAMES = re.compile(r"\b\w+(?:[-./_:]\w+)+")
STOP_WORDS = frozenset(
    "a about after all also am an and any are as at be been before being but by can could did do "
    "does doing done each few for from give given gives had has have having he her here hers him "
    "his how i if in into is it its just let like many may me might more most much must my no nor "
    "not of off on once one only or other our out over own please same say said says shall she "
    "should so some such take tell than that the their them then there these they this those "
    "through to too under until up us use used very was we were what when where which while who "
    "whom whose why will with would you your".split()
)


def terms(question):
    """The words of a question that are worth a search, those that stand for much first and each
    once: words, and as phrases names that hold dots or hyphens, or neighbours of scripts without
    spaces. None of them holds a quotation mark, or nothing."""
    if len(question) > 2 * LOOKED_AT:  # what a long text begins with, and ends with
        question = f"{question[:LOOKED_AT]} {question[-LOOKED_AT:]}"
    text = question.casefold()
    found = [m[0].replace("_", " ") for m in NAMES.finditer(text)]
    words = re.findall(r"\w+", spaced(text))
    plain = [word for word in words if word not in STOP_WORDS] or words
    much = len(plain) > MOST_WORDS
    ends = [plain[: MOST_WORDS // 2], plain[-MOST_WORDS // 2 :]] if much else [plain]
    for end in ends:
        for one, other in zip(end, end[1:]):
            if UNSPACED.fullmatch(one) and UNSPACED.fullmatch(other):
                found.append(f"{one} {other}")
    found = found[:4] + found[-4:] if much else found[:16]
    return list(dict.fromkeys([*found, *(word for end in ends for word in end)]))


def search(store, question, most):
    """The Passages that fit a question, best first, most of them at most. Raises sqlite3.Error."""
    asked = []
    for term in terms(question):
        quoted = f'"{term}"'
        known = store.db.execute("SELECT 1 FROM word WHERE word MATCH ? LIMIT 1", (quoted,))
        if not known.fetchone() and len(term) > 3:
            quoted += " *"  # the beginning of a word
        asked.append(quoted)
    if not asked:
        return []
    rows = store.db.execute(
        "SELECT passage.text, passage.line, passage.heading, passage.file FROM word"
        " JOIN passage ON passage.id = word.rowid WHERE word MATCH ?"
        f" ORDER BY bm25(word, {HITS_WEIGH}), passage.id LIMIT ?",
        (" OR ".join(asked), most),
    )
    once = {}
    for row in rows:
        once.setdefault(row[0], Passage(*row))
    return list(once.values())
