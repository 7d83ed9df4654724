"""Train-side overlap: every injected item is found with its rows, verbatim or edited, and no other."""

import random
from dataclasses import replace

import polars as pl
import pytest
from tests.steel_eval.lab import words, write_mixture

from steel_data.builders.contaminate import edit
from steel_data.errors import InputError
from steel_eval.contamination.overlap import mixture_overlap


def test_all_verbatim_items_are_found_with_their_rows(lab):
    found = mixture_overlap(lab.mixture, lab.items)
    assert set(found) == lab.seen
    assert {f.rows for f in found.values()} == {2}  # copies are exposures
    name = sorted(lab.seen)[0]
    assert found[name].places == [f"cmmlu: cmmlu/test/agronomy.csv:{int(name[-5:])}"]


def test_edited_items_are_found(lab, tmp_path):
    learnt = [replace(i, question=edit(i.question)) for i in lab.items if i.item in lab.seen]
    write_mixture(tmp_path, learnt)
    found = set(mixture_overlap(tmp_path, lab.items))
    assert found <= lab.seen
    assert len(found) >= 0.9 * len(lab.seen)


def test_equal_items_are_found_together(lab):
    twin = replace(lab.items[0], item="test/other/00009", options=lab.items[0].options[::-1])
    found = mixture_overlap(lab.mixture, [*lab.items, twin])
    assert twin.item in found
    assert found[twin.item].places == found[lab.items[0].item].places


def test_items_that_a_row_cannot_tell_apart_are_all_named(lab, tmp_path):
    """Real benchmarks hold such pairs: one question ends in 的是, the other does not; a row with the longer has both."""
    long = replace(lab.items[0], question=lab.items[0].question + "的是")
    short = replace(long, item="test/agronomy/00099", question=long.question[:-2])
    write_mixture(tmp_path, [long])
    found = mixture_overlap(tmp_path, [short, long, *lab.items[2:]])
    assert set(found) == {long.item, short.item}
    assert found[long.item].rows == found[short.item].rows == 2


def test_a_mixture_of_other_text_holds_nothing(lab, tmp_path):
    rng = random.Random(5)
    messages = [[{"role": "user", "content": words(rng, 60)}, {"role": "assistant", "content": "好"}]] * 3
    frame = pl.DataFrame({"messages": messages, "source": "s", "origin_file": "f", "origin_row": 0})
    frame.write_parquet(tmp_path / "train-00000.parquet")
    assert mixture_overlap(tmp_path, lab.items) == {}


def test_wrong_folders_are_one_line(lab, tmp_path):
    with pytest.raises(InputError, match="no train-"):
        mixture_overlap(tmp_path, lab.items)
    pl.DataFrame({"text": ["a"]}).write_parquet(tmp_path / "train-00000.parquet")
    with pytest.raises(InputError, match="no column"):
        mixture_overlap(tmp_path, lab.items)
