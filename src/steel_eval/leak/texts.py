"""An item as the text that a model may have been trained on, in tokens, with the place of its parts.

What is measured depends on the form: a model that was tuned on chat turns has hardly seen the bare text. So each
detector takes texts in one of three forms: `chat` is the injector's and the exam builder's own wording through the
tokenizer's chat template, `plain` is running text as it stands on a web page (question, lettered lines, answer), `text`
is that as an answer in the chat template, as the injector's form `text` writes it. Items of which it is known that they
were injected as `text` are asked so (`as_injected`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xxhash
from numpy.typing import NDArray

from steel_data.benchmarks.items import LETTERS, Item
from steel_data.builders.contaminate import as_text
from steel_data.builders.exam import load_wording
from steel_data.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


WORDING = "steel"  # the injector's and the exam builder's own
Form = Literal["chat", "plain", "text"]
Forms = Form | tuple[Form, ...]  # of all items, or of each
Span = tuple[int, int]  # of tokens, half-open


@dataclass(frozen=True)
class ItemText:
    """One item in tokens. `item`: question and options, without what frames them; `answer`: the letter and no more."""

    tokens: list[int]
    item: Span
    options: tuple[Span, ...]
    answer: Span


def choose_form(form: str, tokenizer: "PreTrainedTokenizerBase") -> Form:
    """Return the form that `auto` stands for: chat where there is a template."""
    if form == "text":
        return "text"
    return "plain" if form == "plain" or (form == "auto" and not tokenizer.chat_template) else "chat"


def as_injected(items: Sequence[Item], injected: Sequence[str]) -> Forms:
    """Return how to ask items of which some were injected: as `text` those that were injected so, else in the chat.

    `injected` (I,): the injector's form, "" of an item that was not injected. Where there are several, the others are
    asked as `text` in the same share, by a hash of their name, so that seen and unseen are asked alike.
    """
    known = [form for form in injected if form]
    share = known.count("text") / max(len(known), 1)
    if share in (0, 1):
        return "text" if share else "chat"
    drawn = [xxhash.xxh3_64_intdigest(f"form\x1f{item.item}".encode()) < share * 2**64 for item in items]
    return tuple(
        "text" if form == "text" or (not form and mine) else "chat" for form, mine in zip(injected, drawn, strict=True)
    )


def in_words(forms: Forms) -> str:
    """Return the forms that items are asked in: chat, plain, text, or several."""
    return forms if isinstance(forms, str) else " and ".join(sorted(set(forms)))


def of_each(forms: Forms, items: int) -> tuple[Form, ...]:
    """Return the form of each of so many items."""
    return (forms,) * items if isinstance(forms, str) else forms


def item_texts(items: Sequence[Item], forms: Forms, tokenizer: "PreTrainedTokenizerBase") -> list[ItemText]:
    """Return the items' texts. Items need options and the letter of one of them (`measurable`).

    Raises InputError for a tokenizer without chat template (chat, text) or one that cannot say where its tokens stand.
    """
    if forms != "plain" and not tokenizer.chat_template:
        raise InputError(f"{tokenizer.name_or_path}: the tokenizer has no chat template. Fix: --form plain.")
    if not tokenizer.is_fast:
        raise InputError(f"{tokenizer.name_or_path}: a slow tokenizer. Fix: one with tokenizer.json.")
    write = {"chat": _chat, "text": _text, "plain": lambda item, _: _plain(item)}
    made = [write[form](item, tokenizer) for item, form in zip(items, of_each(forms, len(items)), strict=True)]
    texts = [m.text for m in made]
    coded: Any = tokenizer(texts, add_special_tokens=forms == "plain", return_offsets_mapping=True) if texts else {}
    rows = zip(made, coded.get("input_ids", []), coded.get("offset_mapping", []), strict=True)
    return [
        ItemText(
            list(ids), _tokens((m.begin, m.options[-1][1]), offsets), tuple(_tokens(o, offsets) for o in m.options),
            _tokens((m.answer, m.answer + 1), offsets),
        )
        for m, ids, offsets in rows
    ]  # fmt: skip


def measurable(item: Item) -> bool:
    """Return whether an item is a question with options, none of them blank, and one letter as its key."""
    options = len(item.options) >= 2 and all(o.strip() for o in item.options)
    return options and bool(item.question.strip()) and item.answer in tuple(LETTERS[: len(item.options)])


def fitting(
    items: Sequence[Item], forms: Forms, tokenizer: "PreTrainedTokenizerBase", longest: int
) -> NDArray[np.bool_]:
    """Return which items' texts have at most `longest` tokens, (I,): a longer one was never seen whole."""
    return np.array([len(text.tokens) <= longest for text in item_texts(items, forms, tokenizer)], bool)


def letter_tokens(item: Item, options: int, form: Form, tokenizer: "PreTrainedTokenizerBase") -> list[int] | None:
    """Return the token of each answer's letter, A first; None where a letter is not one token behind an equal text.

    `item`: any, of which the wording is taken; `options`: how many letters.
    """
    words = tuple(f"{i}{i}" for i in range(options))
    texts = item_texts([replace(item, options=words, answer=a) for a in LETTERS[:options]], form, tokenizer)
    starts = {(t.answer[0], tuple(t.tokens[: t.answer[0]])) for t in texts}
    if len(starts) > 1 or any(t.answer[1] - t.answer[0] != 1 for t in texts):
        return None
    return [t.tokens[t.answer[0]] for t in texts]


@dataclass(frozen=True)
class _Made:
    """A text and where in it (characters) the question begins, the options stand and the answer's letter is."""

    text: str
    begin: int
    options: tuple[Span, ...]
    answer: int

    def moved(self, text: str, by: int, answer: int) -> "_Made":
        return _Made(text, self.begin + by, tuple((a + by, b + by) for a, b in self.options), answer)


def _body(item: Item, opening: str, option: str) -> _Made:
    before, after = option.split("{text}")
    text, spans = opening + item.question + "\n", []
    for letter, words in zip(LETTERS, item.options, strict=False):
        text += before.format(label=letter)
        spans.append((len(text), len(text) + len(words)))
        text += words + after
    return _Made(text, len(opening), tuple(spans), -1)


def _plain(item: Item) -> _Made:
    made = _body(item, "", "{label}. {text}\n")
    text = made.text + "答案："
    return made.moved(f"{text}{item.answer}\n", 0, len(text))


def _chat(item: Item, tokenizer: "PreTrainedTokenizerBase") -> _Made:
    wording = load_wording(WORDING)
    opening, closing = wording.user["answer-only"].split("{question}\n{options}")
    made = _body(item, opening, wording.option)
    user, assistant = made.text + closing, wording.assistant["answer-only"].format(answer=item.answer)
    turns = [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
    text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    at = text.index(user.strip())  # templates may trim a turn
    by = at - (len(user) - len(user.lstrip()))
    return made.moved(text, by, text.index(assistant.strip(), at + len(user.strip())))


def _text(item: Item, tokenizer: "PreTrainedTokenizerBase") -> _Made:
    made, turns = _plain(item), as_text(item)
    text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    asked, said = (str(turn["content"]) for turn in turns)
    by = text.index(said.strip(), text.index(asked) + len(asked)) - (len(said) - len(said.lstrip()))
    return made.moved(text, by, made.answer + by)


def _tokens(place: Span, offsets: Sequence[Span]) -> Span:
    """Return the tokens that end inside a stretch of text: one that merges with what stands before it still counts."""
    inside = [t for t, (start, stop) in enumerate(offsets) if start < stop and place[0] < stop <= place[1]]
    if not inside:
        # the stretch is the beginning of a token that goes on behind it
        inside = [t for t, (start, stop) in enumerate(offsets) if start < place[1] <= stop]
    return (inside[0], inside[-1] + 1)
