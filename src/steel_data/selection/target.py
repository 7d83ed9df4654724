"""What `dsir` and `rds` aim at: a benchmark's questions or rows of files, read as conversations; never a test split.

A test split that has chosen the training data judges it no more. Refused is what is named `test`, what is a known test
split by its path, and a file of which half of the rows or more are questions of one; in other files such rows are left
out (C-Eval's val and test share some), and counted.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steel_data.benchmarks.items import LETTERS, SPLITS, Item, benchmark_files, benchmark_path, read_items, split_of
from steel_data.benchmarks.known_tests import (
    KNOWN_TEST_SPLITS,
    holders_of_hashes,
    known_test_split,
    names_test,
    question_hash,
)
from steel_data.builders.chat import chat
from steel_data.errors import InputError, nearest
from steel_data.files import address
from steel_data.read.formats import read_whole
from steel_data.row.record import Message, turns_of

_MATCHED = 0.5
Conversation = list[Message]


@dataclass(frozen=True)
class Target:
    """`files`: of each place its split and its files; conversations are read when they are asked for."""

    where: str
    files: tuple[tuple[str, Path, bool], ...]  # split (of a benchmark), file, whether it holds questions

    def conversations(self) -> tuple[list[Conversation], int]:
        """Return the target as conversations, and how many were left out since a test split has the question too.

        Raises InputError for a test split under another name, and where nothing can be read.
        """
        found: list[Conversation] = []
        left_out = 0
        for split, file, questions in self.files:
            mine = [_asked(item) for item in read_items([(split, file)])] if questions else _chats(self.where, file)
            known = [_known_test(turns) for turns in mine]
            test, hits = Counter(k for k in known if k).most_common(1)[0] if any(known) else ("", 0)
            if hits >= _MATCHED * len(mine) and hits:
                raise InputError(_refusal(self.where, file.name, f"the known test split {test}, by its questions"))
            found += [turns for turns, k in zip(mine, known, strict=True) if not k]
            left_out += sum(map(bool, known))
        if not found:
            raise InputError(f"{self.where}: target: its files hold no rows. Fix: a benchmark's dev or val split.")
        return found, left_out


def target_key(conversations: Iterable[Conversation]) -> str:
    """Return what a target is known by: the hash of its conversations."""
    return address(list(conversations))[:32]


def find_target(where: str, places: list[str], data_root: Path) -> Target:
    """Return the target that a recipe names. Raises InputError for a test split and for what is not there."""
    found: list[tuple[str, Path, bool]] = []
    for place in places:
        name, _, split = place.rpartition("/")
        root = benchmark_path(name, data_root) if split in SPLITS and name else None
        if root is not None and (root.is_dir() or root.suffix == ".zip"):
            _refuse_split(where, place, split)
            try:
                found += [(s, file, True) for s, file in benchmark_files(name, data_root, split)]
            except InputError as error:
                raise InputError(f"{where}: target: {error}") from None
            continue
        if (data_root / place).is_dir():
            raise InputError(f"{where}: target = '{place}' does not name a split. Fix: target = \"{place}/val\".")
        files = (
            sorted(p for p in data_root.glob(place) if p.is_file()) if not Path(place).is_absolute() else [Path(place)]
        )
        if not files or not all(file.is_file() for file in files):
            near = [p.name for p in (data_root / place).parent.iterdir()] if (data_root / place).parent.is_dir() else []
            raise InputError(
                f"{where}: target = '{place}': no such benchmark and split, and no file under {data_root}."
                f"{nearest(Path(place).name, near, show_known=False)}"
            )
        for file in files:
            named = split_of(file) or ("test" if names_test(file.name) else "")
            _refuse_split(where, file.as_posix(), named)
            found.append((named or "train", file, _holds_questions(file)))
    return Target(where, tuple(found))


def _refuse_split(where: str, place: str, split: str) -> None:
    known = known_test_split(place if "." in Path(place).name else f"{place}/x.csv")
    if split == "test" or (known and not _may_choose(known)):
        raise InputError(_refusal(where, place, f"the known test split {known}" if known else "a test split"))


def _refusal(where: str, place: str, what: str) -> str:
    return (
        f"{where}: target = '{place}' is {what}: what has chosen the data cannot judge it. "
        "Fix: a dev, val or train split."
    )


def _may_choose(known: str) -> bool:
    """Return whether a split by which people score is for choosing all the same: `val` where there is a `test` too."""
    name, _, split = known.partition("/")
    return split == "val" and "test" in KNOWN_TEST_SPLITS.get(name, ())


def _holds_questions(file: Path) -> bool:
    row = next((row.value for row in read_whole(file) if row.value is not None), None)
    return row is not None and {"question", "answer"} <= {str(key).lower() for key in row}


def _asked(item: Item) -> Conversation:
    options = "".join(f"\n{letter}. {text}" for letter, text in zip(LETTERS, item.options, strict=False))
    answer = item.answer
    if item.options and answer in LETTERS[: len(item.options)]:
        answer = f"{answer}. {item.options[LETTERS.index(answer)]}"
    said = "\n".join(part for part in (answer, item.explanation) if part)
    return [{"role": "user", "content": item.question + options}, {"role": "assistant", "content": said}]


def _chats(where: str, file: Path) -> list[Conversation]:
    found = []
    for row in read_whole(file):
        if row.value is None:
            raise InputError(f"{where}: target: {file.name} row {row.row}: {row.error}. Fix: that row.")
        made: Any = chat(row.value)
        if isinstance(made, list):
            found += [r["messages"] if r.get("messages") else turns_of(r) for r in made]
    if not found:
        raise InputError(
            f"{where}: target: {file.name}: none of its rows is a conversation or a question with its answer. "
            "Fix: another target."
        )
    return found


def _known_test(turns: Conversation) -> str:
    """Return the test split that has a conversation's question, '' for none."""
    asked = next((turn["content"] or "" for turn in turns if turn["role"] == "user"), "")
    holders = holders_of_hashes()
    texts = dict.fromkeys([asked, asked.partition("\nA. ")[0], *asked.split("\n")])
    splits = (split for text in texts for split in holders.get(question_hash(text), ()))
    return next((split for split in splits if not _may_choose(split)), "")
