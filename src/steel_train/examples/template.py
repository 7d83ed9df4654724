"""Where a rendered conversation must be learnt: exact for any chat template, or the reason why not.

A template is a program: it may trim text, drop the thinking of earlier turns (Qwen3) or insert an empty thinking block.
So nothing is guessed from its source. Each conversation is rendered twice, once as it is and once with marks around
every text that a model would have to write. If taking the marks out gives the first rendering again, they say exactly
where each text lies; else the row is refused with a reason.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from steel_data.errors import first_line
from steel_data.row.record import Message

Render = Callable[[list[Message], Any, bool], str]  # messages, tools, whether the generation prompt is added

# Private-use characters: no template looks at them. A text that holds them itself is refused.
_OPEN, _MIDDLE, _CLOSE = "\uf8f0", "\uf8f1", "\uf8f2"
_THOUGHT = re.compile(r"\s*<think>\n*(.*?)\n*</think>\n*(.*)", re.DOTALL)
_MARK = re.compile(f"{_OPEN}(\\d+)([rc])([{_MIDDLE}{_CLOSE}])")


@dataclass(frozen=True)
class Piece:
    """One rendered conversation: `text`, and the half-open character spans in it that are learnt.

    `turns`: indices of the assistant messages that the spans belong to. `unended`: turns that no end token follows.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    turns: tuple[int, ...]
    unended: int = 0


class TemplateError(Exception):
    """A conversation whose learnt spans cannot be known: the row is dropped, with this reason."""


def pieces(messages: list[Message], tools: Any, render: Render, ends: tuple[str, ...]) -> list[Piece]:
    """Return what to train on for one conversation: mostly one piece, learning every assistant turn.

    Where the template drops the reasoning of an earlier turn, that turn is not learnt in the context of the whole (it
    would teach to answer without thinking); it gets a piece of its own that ends with it, where its reasoning is
    rendered. `ends` are the tokens that may end a turn. A turn of which the record says `loss: false` is never learnt.
    Raises TemplateError.
    """
    if _holds_mark(messages):
        raise TemplateError("private-use characters")
    messages = _with_thoughts_apart(messages, tools, render)
    found, lost = _piece(messages, tools, render, ends, None)
    result = [found] if found.spans else []
    for turn in lost:
        piece, still_lost = _piece(messages[: turn + 1], tools, render, ends, turn)
        # a template that never renders reasoning leaves the answer as all there is to learn
        if turn in still_lost:
            piece, _ = _piece(messages[: turn + 1], tools, render, ends, turn, reasoning=False)
        result.append(piece)
    if not result:
        raise TemplateError("no assistant turn to learn")
    return result


def _holds_mark(messages: list[Message]) -> bool:
    texts = (text for m in messages for text in (m.get("content"), m.get("reasoning_content")) if text)
    return any(character in text for text in texts for character in (_OPEN, _MIDDLE, _CLOSE))


def _with_thoughts_apart(messages: list[Message], tools: Any, render: Render) -> list[Message]:
    """Move `<think>…</think>` of an answer to `reasoning_content`, if the template renders both forms alike."""
    if not any(m["role"] == "assistant" and "</think>" in (m.get("content") or "") for m in messages):
        return messages
    apart = []
    for message in messages:
        found = _THOUGHT.fullmatch(message.get("content") or "") if message["role"] == "assistant" else None
        if found and not message.get("reasoning_content"):
            message = {**message, "reasoning_content": found[1], "content": found[2]}
        apart.append(message)
    try:
        return apart if render(apart, tools, False) == render(messages, tools, False) else messages
    except Exception:  # the rendering proper will say what is wrong
        return messages


def _piece(
    messages: list[Message], tools: Any, render: Render, ends: tuple[str, ...], only: int | None, reasoning: bool = True
) -> tuple[Piece, list[int]]:
    """Return the piece of a rendering, and the turns whose reasoning the template dropped (they are not in it)."""
    try:
        text = render(messages, tools, False)
        marks = _marks(text, messages, tools, render)
        prompt = _generation_prompt(messages, tools, render)
    except TemplateError:
        raise
    except Exception as error:  # a template raises what it likes: jinja2.TemplateError, TypeError, KeyError
        raise TemplateError(f"template: {first_line(error, 80)}") from error
    spans, turns, lost, unended = [], [], [], 0
    for i, message in enumerate(messages):
        if message["role"] != "assistant" or message.get("loss") is False or only not in (None, i):
            continue
        thinks = bool(message.get("reasoning_content")) and reasoning
        if thinks and (i, "r") not in marks:
            lost.append(i)
            continue
        following = min((a for (j, _), (a, _) in marks.items() if j > i), default=len(text))
        start = _start(text[:following], marks, prompt, i, thinks or bool(message.get("tool_calls")))
        end, ended = _end(text, marks[i, "c"][1] if (i, "c") in marks else start, following, ends)
        unended += not ended
        spans.append((start, end))
        turns.append(i)
    return Piece(text, tuple(spans), tuple(turns), unended), lost


def _marks(text: str, messages: list[Message], tools: Any, render: Render) -> dict[tuple[int, str], tuple[int, int]]:
    """Return where the texts of each message lie in the rendering: (message, r or c) -> (start, end)."""
    for strip in (str, str.strip, lambda text: text.strip("\n")):
        marked = [_mark(i, m, strip) for i, m in enumerate(messages)]
        parts = _MARK.split(render(marked, tools, False))
        if "".join(parts[::4]) != text:
            continue
        found: dict[tuple[int, str], list[int]] = {}
        position = len(parts[0])
        for number, kind, _, plain in zip(parts[1::4], parts[2::4], parts[3::4], parts[4::4], strict=True):
            found.setdefault((int(number), kind), []).append(position)
            position += len(plain)
        if all(len(places) == 2 for places in found.values()) and all(
            (i, "c") in found for i, m in enumerate(messages) if m["role"] == "assistant" and m.get("content")
        ):
            return {key: (places[0], places[1]) for key, places in found.items()}
    raise TemplateError("template: rewrites the text of a turn")


def _mark(number: int, message: Message, strip: Callable[[str], str]) -> Message:
    marked = dict(message)
    for key, kind in (("content", "c"), ("reasoning_content", "r")):
        text = message.get(key)
        # an empty text stays empty: templates ask whether there is one
        if text:
            marked[key] = f"{_OPEN}{number}{kind}{_MIDDLE}{strip(text)}{_OPEN}{number}{kind}{_CLOSE}"
    return marked


def _generation_prompt(messages: list[Message], tools: Any, render: Render) -> str:
    """Return what the template adds for the model to go on from (`<|im_start|>assistant\\n`)."""
    head = messages[: next(i for i, m in enumerate(messages) if m["role"] == "assistant")]
    bare, prompted = render(head, tools, False), render(head, tools, True)
    return prompted[len(bare) :] if prompted.startswith(bare) else ""


def _start(text: str, marks: dict[tuple[int, str], tuple[int, int]], prompt: str, turn: int, has_more: bool) -> int:
    """Return where a turn begins to be learnt.

    A plain answer begins with its text: what a template puts before it (an empty thinking block) is given at inference
    too. Reasoning and calls are written by the model with all their wrapping, from the end of the generation prompt on.
    """
    begins = [marks[key][0] for key in ((turn, "r"), (turn, "c")) if key in marks]
    if begins and not has_more:
        return min(begins)
    before = max((b for (j, _), (_, b) in marks.items() if j < turn), default=0)
    gap = text[before : min(begins)] if begins else text[before:]
    # the prompt of an earlier turn may be a beginning of it only (a thinking tag that the history lacks)
    for length in range(len(prompt), 3, -1):
        place = gap.find(prompt[:length])
        if place >= 0:
            return before + place + length
    if begins:
        return min(begins)
    raise TemplateError("template: the beginning of a turn cannot be told")


def _end(text: str, after: int, before: int, ends: tuple[str, ...]) -> tuple[int, bool]:
    """Return where a turn ends, and whether by a token: `ends[0]` (eos) if it follows, else the first of the others."""
    places = [(place, place + len(end)) for end in ends if (place := text.find(end, after, before)) >= 0]
    if not places:
        return after, False
    eos = text.find(ends[0], after, before)
    return (eos + len(ends[0]) if eos >= 0 else min(places)[1]), True
