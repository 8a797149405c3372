"""Conversations become ids, as a chat template has them."""

import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import WrongValue
from .added import BLANKS, NOT_IN_TALKS
from .file import ALONE, CHAT_DATE, CHAT_ID, CHAT_TEXT, LSTRIP, RSTRIP
from .talk import at_marks, chat_parts
from .toolform import Seat, between_slots, has_calls, talk_slots
from .turns import check_turns


class Conversations:
    """What a Tokenizer knows of conversations."""

    def encode_chat(
        self,
        messages: list[dict[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        begun: str = "",
    ) -> list[int]:
        """[{"role": "system" (only first), "user" or "assistant" in turn, "content": str}], the
        last a user's -> ids up to where the assistant begins. Contents go through encode: they
        never become control tokens. tools: [{"name", "description", "parameters"}], if the
        tokenizer has a form for them; then messages may have tool_calls, and there are those of
        role tool. begun: the beginning of the answer. Raises ModelError."""
        if self.chat is None:
            found = "this model was exported without a chat template"
            raise WrongValue(f"{found}; expected one to chat; complete text instead")
        if self.tools and (tools or any(has_calls(m) for m in messages)):
            rows = self._with_tools(messages, tools)
        else:
            rows = self._rows(messages)
        items, ids = self._joined([*rows, *at_marks(begun, self.thinking)]), []
        for i, item in enumerate(items):
            if isinstance(item, int):
                ids.append(item)
                continue
            if i and self.types[items[i - 1]] & RSTRIP:
                item = item.lstrip(BLANKS)
            if i + 1 < len(items) and self.types[items[i + 1]] & LSTRIP:
                item = item.rstrip(BLANKS)
            ids += self._run(item, self.prefix_runs or not ids, NOT_IN_TALKS)
        return ids

    def _with_tools(self, messages, tools):
        """As _rows(), with tools, calls of them, and what they gave."""
        messages = check_turns(messages, self.tools.several, self.tools.resumes)
        slots = talk_slots(messages, tools, self.tools, self.strips, self.thoughts)
        parts = between_slots(slots, self.tools, self.chat, bool(tools))
        if None in parts:
            found = "messages: this model's template has no place for one of them there"
            raise WrongValue(f"{found}; expected another order; change it")
        kinds = [kind for kind, _ in slots]
        return self._filled(parts, [kind == Seat.SAID for kind in kinds[1:]])

    def _rows(self, messages):
        """A conversation as texts, and ids of its marks."""
        parts = chat_parts(messages, self.chat, self.strips, self.thoughts)
        return self._filled(parts, [m["role"] == "assistant" for m in messages])

    def _filled(self, parts, own):
        """Pieces and contents in turn -> texts and ids. own: which contents are of the model: in
        those marks between which it thinks are what they were."""
        rows = []
        for n, part in enumerate(parts):
            if not isinstance(part, str):
                rows += [time.strftime(v) if kind == CHAT_DATE else v for kind, v in part]
            else:
                rows += at_marks(part, self.thinking) if own[n // 2] else [part]
        return rows

    def _joined(self, rows):
        """Texts and ids, the text between two ids in one."""
        alone = [isinstance(r, int) and bool(self.types[r] & ALONE) for r in rows]
        if any(alone):  # a mark that stays text where a word goes on beside it
            texts = [self.name(r) if isinstance(r, int) else r for r in rows]
            whole, ends = "".join(texts), list(itertools.accumulate(map(len, texts)))
            spans = zip(alone, [0, *ends], ends)
            stays = [one and self.added.words.within(whole, a, b) for one, a, b in spans]
            rows = [text if stay else r for r, text, stay in zip(rows, texts, stays)]
        items = []
        for row in rows:
            if isinstance(row, str) and items and isinstance(items[-1], str):
                items[-1] += row
            else:
                items.append(row)
        return items

    def chat_form(self) -> dict[str, str] | None:
        """What the chat template writes around contents, as {name: text}; None without one."""
        shows = {CHAT_TEXT: str, CHAT_ID: self.name, CHAT_DATE: "{{today as {}}}".format}
        chat = {name: items for name, items in (self.chat or {}).items() if items is not None}
        return {
            name: "".join(shows[kind](value) for kind, value in items)
            for name, items in chat.items()
        } or None

    def markers(self) -> list[str]:
        """The words that tell turns apart in this model's template and are no control tokens,
        sorted: a user can write them too."""
        names = ("after_system", "u2a", "a2u", "gen") if self.chat else ()
        items = [item for name in names for item in self.chat[name] or ()]
        words = {word for kind, value in items if kind == CHAT_TEXT for word in value.split()}
        return sorted(w for w in words if len(w) > 2 and (set(w) & set("<>[]{}|#") or w[-1] == ":"))
