"""zlib and DC-PDD by hand."""

import zlib

import numpy as np
import pytest

from steel_eval.leak.detectors.frequency import dc_pdd, token_frequency, zlib_ratio
from steel_eval.leak.passes import TokenScores


def scores(*logprob):
    nothing = np.zeros(len(logprob))
    return TokenScores(np.array(logprob), nothing, nothing, nothing.astype(bool), np.zeros(0))


def test_zlib_divides_by_what_the_text_is_worth():
    found = zlib_ratio(scores(np.nan, -2.0, -4.0), (0, 3), "abc")
    assert found == pytest.approx(-6 / len(zlib.compress(b"abc")))


def test_dc_pdd_takes_the_first_place_of_a_token_and_caps_it():
    frequency = token_frequency([[7, 7, 8], [9]])
    assert frequency == {7: 3 / 7, 8: 2 / 7, 9: 2 / 7}
    s = scores(np.nan, np.log(0.001), np.log(0.9), np.log(0.9))
    assert dc_pdd(s, (0, 4), [5, 7, 7, 8], frequency) == pytest.approx((0.001 * np.log(7 / 3) + 0.01) / 2)
