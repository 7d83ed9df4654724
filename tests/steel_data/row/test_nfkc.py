"""NFKC is what unicodedata makes of a text, and takes no longer where a text is one run of marks."""

import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steel_data.row.nfkc import nfkc

MARKS = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c))[0] == "M"]
# long enough for the run to be put in order here, each with marks of many classes, of class 0, and ones that come apart
RUNS = st.lists(st.sampled_from([*MARKS, "\u0344", "\u0f73", "\u0f76", "\u0e33"]), min_size=100, max_size=140)
LONG = "中é" * 500


@given(st.text(max_size=8), RUNS, st.text(max_size=8))
@settings(max_examples=150, deadline=None)
def test_a_long_run_of_marks_is_what_unicodedata_makes_of_it(before, run, after):
    text = LONG + before + "".join(run) + after
    assert nfkc(text) == unicodedata.normalize("NFKC", text)


@pytest.mark.parametrize("marks", ["\u0301\u0323", "\u0301" * 500 + "\u0323" * 500])
def test_a_run_of_marks_takes_linear_time(marks):
    """100,000 took seven seconds, a megabyte of them ten minutes."""
    began = time.process_time()
    nfkc("a" + marks * (100_000 // len(marks)))
    assert time.process_time() - began < 1
