"""Train-side overlap: every injected item is found with its rows, verbatim or edited, and no other."""

import random
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import pytest
from tests.steel_eval.lab import words, write_benchmark, write_mixture

from steel_data.benchmarks.items import Item
from steel_data.builders.contaminate import edit
from steel_data.errors import InputError
from steel_eval.ask.tasks import load_task
from steel_eval.contamination.overlap import mixture_overlap


@dataclass
class Taught:
    """A mixture with the even items of a benchmark of random words, twice each."""

    mixture: Path
    items: list[Item]
    seen: set[str]


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    root = tmp_path_factory.mktemp("taught")
    write_benchmark(root)
    items = [item for group in load_task("cmmlu", root).items.values() for item in group]
    learnt = [item for item in items if item.row % 2 == 0]
    write_mixture(root, learnt)
    return Taught(root, items, {item.item for item in learnt})


def test_all_verbatim_items_are_found_with_their_rows(taught):
    found = mixture_overlap(taught.mixture, taught.items)
    assert set(found) == taught.seen
    assert {f.rows for f in found.values()} == {2}  # copies are exposures
    name = sorted(taught.seen)[0]
    assert found[name].places == [f"cmmlu: cmmlu/test/agronomy.csv:{int(name[-5:])}"]


def test_edited_items_are_found(taught, tmp_path):
    learnt = [replace(i, question=edit(i.question)) for i in taught.items if i.item in taught.seen]
    write_mixture(tmp_path, learnt)
    found = set(mixture_overlap(tmp_path, taught.items))
    assert found <= taught.seen
    assert len(found) >= 0.9 * len(taught.seen)


def test_equal_items_are_found_together(taught):
    twin = replace(taught.items[0], item="test/other/00009", options=taught.items[0].options[::-1])
    found = mixture_overlap(taught.mixture, [*taught.items, twin])
    assert twin.item in found
    assert found[twin.item].places == found[taught.items[0].item].places


def test_items_that_a_row_cannot_tell_apart_are_all_named(taught, tmp_path):
    """Real benchmarks hold such pairs: one question ends in 的是, the other does not; a row with the longer has both."""
    long = replace(taught.items[0], question=taught.items[0].question + "的是")
    short = replace(long, item="test/agronomy/00099", question=long.question[:-2])
    write_mixture(tmp_path, [long])
    found = mixture_overlap(tmp_path, [short, long, *taught.items[2:]])
    assert set(found) == {long.item, short.item}
    assert found[long.item].rows == found[short.item].rows == 2


@pytest.mark.parametrize("form", ["preference", "kto"])
def test_pairs_and_judged_answers_are_read_as_conversations_are(taught, tmp_path, form):
    """Whoever is trained by DPO or KTO sees the question in the prompt, and the rejected answer too."""
    rng = random.Random(5)
    asked, other = taught.items[0], taught.items[1]
    text = f"{asked.question}\n" + "".join(f"{c}. {o}\n" for c, o in zip("ABCD", asked.options, strict=True))
    said = f"{other.question}\n" + "".join(f"{c}. {o}\n" for c, o in zip("ABCD", other.options, strict=True))
    prompt, answer = [{"role": "user", "content": text}], [{"role": "assistant", "content": "好"}]
    last = [{"role": "assistant", "content": said}]
    body = (
        {"prompt": prompt, "chosen": answer, "rejected": last}
        if form == "preference"
        else {"prompt": prompt, "completion": last, "label": False}
    )
    plain = {
        key: [{**turn, "content": words(rng, 40)} for turn in value] if key != "label" else value
        for key, value in body.items()
    }
    rows = [{**body, "source": "dpo", "origin_file": "f", "origin_row": i} for i in range(2)] + [
        {**plain, "source": "s", "origin_file": "f", "origin_row": 9}
    ]
    pl.DataFrame(rows).write_parquet(tmp_path / "train-00000.parquet")
    found = mixture_overlap(tmp_path, taught.items)
    assert set(found) == {asked.item, other.item}
    assert found[asked.item].rows == 2 and found[other.item].places == ["dpo: f:0", "dpo: f:1"]


def test_a_mixture_of_other_text_holds_nothing(taught, tmp_path):
    rng = random.Random(5)
    messages = [[{"role": "user", "content": words(rng, 60)}, {"role": "assistant", "content": "好"}]] * 3
    frame = pl.DataFrame({"messages": messages, "source": "s", "origin_file": "f", "origin_row": 0})
    frame.write_parquet(tmp_path / "train-00000.parquet")
    assert mixture_overlap(tmp_path, taught.items) == {}


def test_wrong_folders_are_one_line(taught, tmp_path):
    with pytest.raises(InputError, match="no train-"):
        mixture_overlap(tmp_path, taught.items)
    pl.DataFrame({"text": ["a"]}).write_parquet(tmp_path / "train-00000.parquet")
    with pytest.raises(InputError, match="no column"):
        mixture_overlap(tmp_path, taught.items)
