"""Where a rendered conversation must be learnt: exact for any chat template, or the reason why not.

A template is a program: it may trim text, drop the thinking of earlier turns (Qwen3), end an answer in one way where it
is the last and in another where it is not (gpt-oss). So nothing is guessed from its source; it is asked. What a model
writes at a turn is what the template renders for that turn where it is the last, beyond the rendered generation prompt:
that is learnt, with all its wrapping, up to the token that ends it. Nothing else is: the context of a turn is exactly
what the model will be asked with. Marks around every text show that none is lost or rewritten.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from steel_data.errors import first_line
from steel_data.row.record import Message

Render = Callable[[list[Message], Any, bool], str]  # messages, tools, whether the generation prompt is added
Marks = dict[tuple[int, str], tuple[int, int]]  # (message, r or c) -> (start, end) of its reasoning or content

# Private-use characters: no template looks at them. A text that holds them itself is refused.
_OPEN, _MIDDLE, _CLOSE = "\uf8f0", "\uf8f1", "\uf8f2"
_MARK = re.compile(f"{_OPEN}(\\d+)([rc])([{_MIDDLE}{_CLOSE}])")
_THOUGHT_KEYS = ("reasoning_content", "thinking", "reasoning")
_STRIPS = (str, str.strip, lambda text: text.strip("\n"))


@dataclass(frozen=True)
class Piece:
    """One rendered conversation: `text`, and the half-open character spans in it that are learnt.

    `turns`: indices of the assistant messages that the spans belong to. `ended`: whether a token ends each of them.
    `aside`: turns that do not go on from the generation prompt, since the template renders them in another way.
    `is_whole`: all of the text is learnt, not the spans alone.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    turns: tuple[int, ...]
    ended: tuple[bool, ...]
    aside: int = 0
    is_whole: bool = False


class TemplateError(Exception):
    """A conversation whose learnt spans cannot be known: the row is dropped, with this reason."""


@dataclass
class Template:
    """A chat template as a function, the tokens that may end a turn (eos first), and habits found by trying it."""

    render: Render
    ends: tuple[str, ...]
    _tails: dict[str | None, str] = field(default_factory=dict)

    @cached_property
    def thought_key(self) -> str:
        """Where it wants reasoning: a key of the message, "content" (written into the text), or "" where it strips it.

        A template that strips thoughts even of the last turn (R1) was made for asking only.
        """
        asked = {"role": "user", "content": "q"}
        for key in _THOUGHT_KEYS:
            if self._shows([asked, {"role": "assistant", "content": "a", key: _OPEN}]):
                return key
        return "content" if self._shows([asked, {"role": "assistant", "content": thought(_OPEN, "a")}]) else ""

    def _shows(self, messages: list[Message]) -> bool:
        try:
            return _OPEN in self.render(messages, None, False)
        except Exception:  # a template raises what it likes
            return False

    @cached_property
    def closes(self) -> bool:
        """Whether it ends an answer with a token. Where it does not, the header of the next turn does (GLM)."""
        return any(end in self._answer_tail() for end in self.ends)

    @cached_property
    def after_all(self) -> str:
        """What it writes behind the last answer only, when a token has ended the answer already (Phi-3's eos)."""
        alone, longer = self._answer_tail(), self._answer_tail("user")
        shared = next((i for i, (a, b) in enumerate(zip(alone, longer, strict=False)) if a != b), len(alone))
        ended = max((alone.rfind(end, 0, shared) + len(end) for end in self.ends if end in alone[:shared]), default=0)
        behind = alone[ended:].strip()
        return behind if ended and any(end in behind for end in self.ends) else ""

    def header(self, role: str) -> str:
        """Return the token, with blanks before it, that stands between an answer and the text of a next turn, or ""."""
        tail = self._answer_tail(role)
        bare = tail.lstrip()
        found = next((end for end in self.ends if bare.startswith(end)), None)
        return "" if found is None else tail[: len(tail) - len(bare)] + found

    def _answer_tail(self, following: str | None = None) -> str:
        """Return what follows the text of an answer that is the last, or that a turn of this role follows."""
        if following not in self._tails:
            talk = [{"role": "user", "content": "q"}, {"role": "assistant", "content": _OPEN}]
            try:
                text = self.render([*talk, *([{"role": following, "content": "q"}] if following else [])], None, False)
                self._tails[following] = text.partition(_OPEN)[2]
            except Exception:  # a template raises what it likes
                self._tails[following] = self.ends[0] if self.ends and following is None else ""
        return self._tails[following]

    def text(self, messages: list[Message], tools: Any, prompt: bool = False) -> str:
        """Return the rendering, reasoning under the key that the template reads."""
        if self.thought_key not in ("reasoning_content", "content", ""):
            messages = [{self._renamed(key): value for key, value in m.items()} for m in messages]
        return self.render(messages, tools, prompt)

    def _renamed(self, key: str) -> str:
        return self.thought_key if key == "reasoning_content" else key


@dataclass
class _Whole:
    """The whole conversation as it is rendered."""

    text: str
    marks: Marks
    messages: int


@dataclass
class _Turn:
    """One assistant turn as it is written where it is the last: `text` up to `end`, learnt from `start` on."""

    text: str
    start: int
    end: int
    ended: bool
    aside: bool


@dataclass
class _Draft:
    """A piece in the making."""

    text: str
    turns: dict[int, tuple[tuple[int, int], bool, bool]] = field(default_factory=dict)  # span, ended, aside

    def piece(self) -> Piece:
        kept = [self.turns[i] for i in sorted(self.turns)]
        return Piece(
            self.text, tuple(span for span, _, _ in kept), tuple(sorted(self.turns)),
            tuple(ended for _, ended, _ in kept), sum(aside for _, _, aside in kept),
        )  # fmt: skip


def thought(reasoning: str, answer: str) -> str:
    """Return an answer with its reasoning before it, as templates without a place for reasoning take it."""
    return f"<think>\n{reasoning}\n</think>\n\n{answer}"


def pieces(messages: list[Message], tools: Any, template: Template) -> list[Piece]:
    """Return what to train on for one conversation: mostly one piece, learning every assistant turn.

    A turn that the template renders in another way where it is not the last (without its reasoning, with another end)
    is not learnt in the whole conversation, where it would teach what is never asked for: it gets a piece of its own
    that ends with it. A turn of which the record says `loss: false` is never learnt. Raises TemplateError.
    """
    if _holds_mark(messages):
        raise TemplateError("private-use characters")
    learnt = [i for i, m in enumerate(messages) if m["role"] == "assistant" and m.get("loss") is not False]
    if not learnt:
        raise TemplateError("no assistant turn to learn")
    if learnt[0] == 0:
        raise TemplateError("template: the conversation begins with an answer, so nothing is asked")
    try:
        return _pieces(_as_it_wants(messages, tools, template), tools, template, learnt)
    except TemplateError:
        raise
    except Exception as error:  # a template raises what it likes: jinja2.TemplateError, TypeError, KeyError
        raise TemplateError(f"template: {first_line(error, 80)}") from error


def whole(messages: list[Message], tools: Any, template: Template) -> Piece:
    """Return a conversation as one piece of which all is learnt: its rendering as it is asked for the last answer.

    A template that loses or rewrites a text is refused as by `pieces`. Raises TemplateError.
    """
    last = max((i for i, m in enumerate(messages) if m["role"] == "assistant"), default=None)
    found = pieces([{k: v for k, v in m.items() if k != "loss"} for m in messages], tools, template)
    return replace(next(piece for piece in found if piece.turns[-1] == last), is_whole=True, aside=0)


def _holds_mark(messages: list[Message]) -> bool:
    texts = (text for m in messages for text in (m.get("content"), m.get("reasoning_content")) if text)
    return any(character in text for text in texts for character in (_OPEN, _MIDDLE, _CLOSE))


def _pieces(messages: list[Message], tools: Any, template: Template, learnt: list[int]) -> list[Piece]:
    text = template.text(messages, tools)
    whole = _Whole(text, _marks(text, messages, tools, template), len(messages))
    drafts = [_Draft(text)]
    for i in reversed(learnt):
        turn = _turn(messages[: i + 1], tools, template, whole)
        written = turn.text[: turn.end]
        draft = next((d for d in drafts if d.text.startswith(written)), None)
        if draft is None:
            draft = _Draft(turn.text)
            drafts.append(draft)
        end, ended = turn.end, turn.ended
        if not ended and not template.closes:
            header = template.header(messages[i + 1]["role"] if i + 1 < len(messages) else "user")
            if not draft.text[end:].strip():
                draft.text = draft.text[:end] + header
            if header and draft.text.startswith(header, end):
                end, ended = end + len(header), True
        draft.turns[i] = ((turn.start, end), ended, turn.aside)
    return [draft.piece() for draft in drafts if draft.turns]


# ── the form in which a template wants reasoning and calls ───────────────────────────────────────────────────────────


def _as_it_wants(messages: list[Message], tools: Any, template: Template) -> list[Message]:
    """Return the messages in the form that the template renders. Raises TemplateError where it renders none."""
    messages = _with_calls(_with_thoughts(messages, template), tools, template)
    if tools and _try(messages, None, template) == template.text(messages, tools):
        raise TemplateError("template: does not render tools")
    return messages


def _with_calls(messages: list[Message], tools: Any, template: Template) -> list[Message]:
    """Return the messages with calls in the first form that is rendered whole."""
    calling = [i for i, m in enumerate(messages) if m.get("tool_calls")]
    if not calling:
        return messages
    faults = []
    for form in _call_forms(messages):
        fault = None
        for i in calling:
            try:
                fault = _unwritten(form[: i + 1], tools, template)
            except Exception as error:
                fault = f"template: {first_line(error, 80)}"
            if fault is not None:
                break
        if fault is None:
            return form
        faults.append(fault)
    raise TemplateError(faults[0])


def _with_thoughts(messages: list[Message], template: Template) -> list[Message]:
    """Put reasoning where the template reads it: apart, or into the text."""
    thinking = [m for m in messages if m["role"] == "assistant"]
    if not any(m.get("reasoning_content") or "</think>" in (m.get("content") or "") for m in thinking):
        return messages
    return [_with_thought(m, template.thought_key) if m["role"] == "assistant" else m for m in messages]


def _with_thought(message: Message, key: str) -> Message:
    reasoning, content = message.get("reasoning_content"), message.get("content") or ""
    if key == "content":
        kept = {name: value for name, value in message.items() if name != "reasoning_content"}
        return {**kept, "content": thought(reasoning, content)} if reasoning else message
    head, opened, more = content.partition("<think>")
    inside, closed, said = more.partition("</think>")
    if reasoning or head.strip() or not opened or not closed:
        return message
    return {**message, "reasoning_content": inside.strip("\n"), "content": said.lstrip("\n")}


def _call_forms(messages: list[Message]) -> Iterator[list[Message]]:
    """Return calls with arguments as an object, which most templates want, then as JSON text (DeepSeek)."""
    for arguments in (lambda value: value, _as_text):
        yield [
            {**m, "tool_calls": [_call(c, arguments) for c in m["tool_calls"]]} if m.get("tool_calls") else m
            for m in messages
        ]


def _as_text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _call(call: dict[str, Any], arguments: Callable[[Any], Any]) -> dict[str, Any]:
    if isinstance(call.get("function"), dict):
        return {**call, "function": _call(call["function"], arguments)}
    return {**call, "arguments": arguments(call["arguments"])} if call.get("arguments") is not None else call


def _unwritten(messages: list[Message], tools: Any, template: Template) -> str | None:
    """Return what the template leaves out of the calls of the last message, or None. Raises what the template does."""
    text = template.text(messages, tools)
    *before, last = messages
    calls = last["tool_calls"]
    for j, call in enumerate(calls):
        others = [*calls[:j], *calls[j + 1 :]]
        without = {**last, "content": last.get("content") or "", "tool_calls": others}
        if not others:
            del without["tool_calls"]
        if _try([*before, without], tools, template) == text:
            return "template: does not render tool calls"
        given = (call.get("function") or call).get("arguments")
        if given in (None, {}, "{}"):
            continue
        emptied = [*calls[:j], _call(call, lambda value: "{}" if isinstance(value, str) else {}), *calls[j + 1 :]]
        if _try([*before, {**last, "tool_calls": emptied}], tools, template) == text:
            return "template: does not render the arguments of tool calls"
        if isinstance(given, dict):
            parts = [given, *(value for value in given.values() if isinstance(value, dict | list) and value)]
            if any(str(part) in text and json.dumps(part, ensure_ascii=False) not in text for part in parts):
                return "template: writes the arguments of tool calls as Python, not as JSON"
    return None


def _try(messages: list[Message], tools: Any, template: Template) -> str | None:
    """Return the rendering, or None where the template refuses it."""
    try:
        return template.text(messages, tools)
    except Exception:
        return None


# ── one turn ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _turn(messages: list[Message], tools: Any, template: Template, whole: _Whole) -> _Turn:
    """Return the last turn of `messages`, which begin the whole conversation."""
    i, last = len(messages) - 1, messages[-1]
    alone = whole.text if len(messages) == whole.messages else template.text(messages, tools)
    if template.after_all:
        alone = alone.rstrip().removesuffix(template.after_all)
    if whole.text.startswith(alone):
        marks = {key: place for key, place in whole.marks.items() if key[0] <= i}
    else:
        marks = _marks(alone, messages, tools, template)
    prompt = template.text(messages[:-1], tools, prompt=True)
    if last.get("reasoning_content") and template.thought_key == "":
        if (i, "c") not in marks or last.get("tool_calls"):
            raise TemplateError("template: does not render the reasoning of a turn")
        return _with_thought_by_hand(alone, marks[i, "c"], prompt, last["reasoning_content"], template)
    if last.get("reasoning_content") and (i, "r") not in marks:
        raise TemplateError("template: does not render the reasoning of a turn")
    if last.get("tool_calls") and template.thought_key == "content" and (i, "c") in marks:
        _check_order(alone[: marks[i, "c"][0]], last)
    if (last.get("content") or "").strip() and (i, "c") not in marks:
        raise TemplateError("template: rewrites the text of a turn")
    start, is_whole = len(prompt), True
    if not alone.startswith(prompt):
        start, is_whole = _start(alone, marks, prompt, template.text(messages[:-1], tools), i)
    after = max([start, *(b for (j, _), (_, b) in marks.items() if j == i)])
    end, ended = _end(alone, after, template)
    if any(a < end and b > start for (j, _), (a, b) in marks.items() if j < i and a < b):
        raise TemplateError("template: writes another message into the turn")
    if alone.startswith(prompt) or not is_whole:
        return _Turn(alone, start, end, ended, aside=not is_whole)
    # what stands before the turn differs (gpt-oss: a thought before a call, once an answer follows); asked it will be
    # with the prompt
    return _Turn(prompt + alone[start:], len(prompt), end + len(prompt) - start, ended, aside=False)


def _check_order(before: str, last: Message) -> None:
    """Refuse a thought that the template writes behind its call (an early Gemma 4: calls first, then the text)."""
    name = str((last["tool_calls"][0].get("function") or last["tool_calls"][0]).get("name") or "")
    if last["content"].startswith("<think>") and name and name in before.rpartition("\n")[2]:
        raise TemplateError("template: writes the reasoning of a turn behind its call")


def _with_thought_by_hand(
    alone: str, answer: tuple[int, int], prompt: str, reasoning: str, template: Template
) -> _Turn:
    """Return a turn whose thought the template strips, the thought put back: prompt, thought, answer, end (R1)."""
    opening = "" if prompt.endswith("<think>\n") else "\n" if prompt.endswith("<think>") else "<think>\n"
    text = f"{prompt}{opening}{reasoning}\n</think>\n\n{alone[answer[0] :]}"
    end, ended = _end(text, len(text) - len(alone) + answer[1], template)
    return _Turn(text, len(prompt), end, ended, aside=False)


def _start(text: str, marks: Marks, prompt: str, bare: str, turn: int) -> tuple[int, bool]:
    """Return where a turn begins to be learnt that does not go on from the generation prompt: where it leaves it.

    And whether all that the prompt adds to the messages stands before it; a thinking tag at its end, for one, may be
    left out where nothing was thought.
    """
    added = prompt[len(bare) :] if prompt.startswith(bare) else ""
    before = max((b for (j, _), (_, b) in marks.items() if j < turn), default=0)
    begin = min((a for (j, _), (a, _) in marks.items() if j == turn), default=None)
    gap = text[before:begin]
    for length in range(len(added), 3, -1):
        place = gap.find(added[:length])
        if place >= 0:
            return before + place + length, length == len(added)
    if begin is None:
        raise TemplateError("template: the beginning of a turn cannot be told")
    return begin, False


def _end(text: str, after: int, template: Template) -> tuple[int, bool]:
    """Return where the last turn of `text` ends, and whether by a token: eos, else the last that may end a turn.

    `after`: the end of its last text; special tokens before it belong to the turn.
    """
    tail, bare = text[after:], text.rstrip()
    if template.closes and template.ends:
        eos = template.ends[0]
        if eos in tail:
            return after + tail.rindex(eos) + len(eos), True
        last = max((tail.rindex(end) + len(end) for end in template.ends if end in tail), default=0)
        if last:
            return after + last, True
    return max(after, len(bare)), False


# ── marks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _marks(text: str, messages: list[Message], tools: Any, template: Template) -> Marks:
    """Return where the texts of each message lie in the rendering. Raises TemplateError where one is lost."""
    missing = "assistant"
    for strip in _STRIPS:
        parts = _MARK.split(template.text([_mark(i, m, strip) for i, m in enumerate(messages)], tools))
        if "".join(parts[::4]) != text:
            continue
        found: dict[tuple[int, str], list[int]] = {}
        position = len(parts[0])
        for number, kind, _, plain in zip(parts[1::4], parts[2::4], parts[3::4], parts[4::4], strict=True):
            found.setdefault((int(number), kind), []).append(position)
            position += len(plain)
        # of an earlier answer it may leave out what it likes: that is how the model will be asked
        others = ((i, m) for i, m in enumerate(messages) if m["role"] != "assistant")
        lost = [m["role"] for i, m in others if (m.get("content") or "").strip() and (i, "c") not in found]
        if not lost and all(len(places) == 2 for places in found.values()):
            return {key: (places[0], places[1]) for key, places in found.items()}
        missing = lost[0] if lost else missing
    if missing != "assistant":
        raise TemplateError(f"template: leaves out the text of a {missing} message")
    raise TemplateError("template: rewrites the text of a turn")


def _mark(number: int, message: Message, strip: Callable[[str], str]) -> Message:
    marked = dict(message)
    for key, kind in (("content", "c"), ("reasoning_content", "r")):
        text = message.get(key)
        # an empty text stays empty: templates ask whether there is one
        if text:
            marked[key] = f"{_OPEN}{number}{kind}{_MIDDLE}{strip(text)}{_OPEN}{number}{kind}{_CLOSE}"
    return marked
