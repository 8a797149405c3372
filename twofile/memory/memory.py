"""Memory: a folder of texts, searched for what a question needs."""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..calls import Tools
from ..errors import ModelError, WrongType, log, printable, set_by, shown
from ..forks import RENEWED
from ..given import FilePath, Messages
from ..model import Model
from ..options import function_asked, text_asked, token_limit, whole_number
from ..prompts import plain_messages
from .folder import Folder
from .index import bring_up_to_date
from .paging import Paged, budget, fitting
from .passages import Passage
from .query import search, terms
from .store import Store, sweep_indexes

SEARCHED = 24  # passages that are found for a question, of which as many as fit are paged in
QUICK = 0.05  # seconds of a look at the folder, which is taken before each question then
FEW_WORDS = 3  # words: a question of fewer goes on with the one before


class Memory:
    """The texts of a folder, cut into passages and indexed; any threads may ask.

    folder: its path (str or os.PathLike). notice(text): is told, a line each, of work that takes
    long, of files that are left out, and where the index cannot be kept; None = nobody is.
    screen(text) -> text: is shown what is found, as a front's Screen, which may take invisible
    characters out. The index is brought up to date at once, and before each question. Raises
    ModelError for what is no folder that can be read.
    """

    def __init__(
        self,
        folder: FilePath,
        notice: Callable[[str], object] | None = log,
        screen: Callable[[str], str] | None = None,
    ) -> None:
        self.folder = Folder(folder)
        self.notice = function_asked("notice", notice) or (lambda text: None)
        self.screen = function_asked("screen", screen) or (lambda text: text)
        self.mutex, self.told = threading.RLock(), set()
        self.looked, self.took = 0.0, 0.0
        self.store = Store(self.folder.path)
        RENEWED.add(self)
        self.update()
        if self.store.path:
            sweep_indexes(os.path.dirname(self.store.path))

    def forked(self) -> None:
        """In a child: a lock and a connection of its own."""
        self.mutex = threading.RLock()
        self.store.forked()

    def close(self) -> None:
        """Give the index's file back."""
        with self.mutex:
            self.store.close()

    def __enter__(self) -> "Memory":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def update(self) -> int:
        """Look what has changed in the folder -> how many files."""
        began = time.monotonic()
        with self.mutex:
            changed = self.safely(lambda: bring_up_to_date(self.store, self.folder, self.notice))
            if changed and time.monotonic() - began > 1:
                number = f"{self.store.count():,} passages in {time.monotonic() - began:.1f} s"
                self.notice(f"memory: {printable(self.folder.given)}: {number}")
            self.looked = time.monotonic()
            self.took = self.took if changed else self.looked - began
            self.say_once("left out: ", self.folder.told())
            why = self.store.why or ""
            self.say_once("its index is in memory and made again each time: ", why)
        return changed

    def say_once(self, what: str, found: str) -> None:
        """Give notice of something, but not again."""
        if found and (what, found) not in self.told:
            self.told.add((what, found))
            self.notice(f"memory: {printable(self.folder.given)}: {what}{found}")

    def safely(self, work: Callable[[], Any]) -> Any:
        """What work() gives; where the index's file fails it is done again with another."""
        for _ in range(2):
            try:
                return work()
            except sqlite3.Error as e:
                self.store.mended(e)
        try:
            return work()
        except sqlite3.Error as e:
            where = f"{set_by('memory')} {printable(self.folder.given)}"
            found = f"{where}: the index fails ({printable(str(e))})"
            raise ModelError(f"{found}; expected room for it in memory; free some") from None

    def find(self, question: str, most: int = SEARCHED) -> list[Passage]:
        """The Passages that fit a question (str), best first, most of them at most; (text, line,
        heading, file) each."""
        text_asked("question", question)
        most = whole_number("most", most, 1, "how many passages, 1 to 1000", 1000)
        with self.mutex:
            if self.took < QUICK or time.monotonic() - self.looked > 20 * self.took:
                self.update()

            def work():
                found = search(self.store, question, most)
                return found if found or self.store.count() else self.again(question, most)

            return self.safely(work)

    def again(self, question: str, most: int) -> list[Passage]:
        """Of an index that is empty, perhaps because it was damaged."""
        bring_up_to_date(self.store, self.folder, self.notice)
        return search(self.store, question, most)

    def page(
        self,
        model: Model,
        messages: Messages,
        answer: int | None = None,
        tools: Tools | Sequence[Mapping[str, Any]] | None = None,
    ) -> Paged:
        """What the user's last message of a conversation is given -> Paged. messages, tools: as in
        Model.encode_chat. answer: tokens that are kept free for the answer, None = a quarter of the
        context. Of a message with few words the one before is searched for too. Raises
        ModelError for what cannot fit, before it is looked for."""
        if not hasattr(model, "encode_chat"):
            raise WrongType(f"model is {shown(model)}, expected a Model; give one")
        messages = plain_messages(messages)
        asked = [m["content"] for m in messages if m["role"] == "user"]
        if not asked or not all(isinstance(text, str) for text in asked):
            return Paged()
        for text in asked:
            model.short(text)
        question = asked[-1]
        if len(terms(question)) < FEW_WORDS and len(asked) > 1:
            question = f"{question}\n{asked[-2]}"
        quarter = model.n_ctx // 4
        answer = token_limit(answer, "answer")
        answer = quarter if answer is None else min(answer, quarter)
        room = budget(model.n_ctx, len(model.encode_chat(messages, tools)) + answer)
        found = self.find(question)
        fit = fitting(found, lambda text: len(model.tokenize(text, False)), room)
        if found and not fit.passages:
            wants = f"expected room for one in {max(0, room)} tokens of a context of {model.n_ctx}"
            self.say_once("no passage fits, ", f"{wants}; raise {set_by('n_ctx')}, or begin again")
        return Paged(tuple(p._replace(text=self.screen(p.text)) for p in fit.passages))
