"""The table of rates: lines hold what they have, stand beside one another as asked, and print whole and safe."""

import orjson

from steel_eval.leak.rates.regime import Regime
from steel_eval.leak.rates.table import (
    AUC,
    BENCHMARKS,
    FLAGGED,
    HITS,
    ITEMS,
    RAISED,
    Rate,
    beside,
    percent,
    print_calibration,
)

FIVE, ONE = HITS


def seen(what, value, dose=1, form="all"):
    return Rate(detector="loss gap: item", what=what, of="seen", dose=dose, form=form, controls="unseen", n=30,
                unseen=1200, value=value, low=value / 2, high=1.0, by_seed=[value, value / 2]).data()  # fmt: skip


def alarm(what, value, controls="same subjects", of="unseen", **more):
    return Rate(detector="loss gap: item", what=what, of=of, controls=controls, n=1804, value=value, low=0.0, high=0.2,
                **more).data()  # fmt: skip


RATES = [
    seen(AUC, 0.7), seen(FIVE, 0.3), seen(ONE, 0.1), seen(AUC, 0.9, 3), seen(FIVE, 0.8, 3),
    seen(AUC, 0.6, 1, "[red]t\x1b[2J"), seen(AUC, 0.8, 1, "edited"),
    alarm(ITEMS, 0.04), alarm(BENCHMARKS, 0.06, subjects=17), alarm(RAISED, 0.02, subjects=17),
    alarm(BENCHMARKS, 0.5, "the other dose", "nulls", subjects=1),
    *(Rate(detector="scenario b", what=FLAGGED, of=of, dose=dose, n=60, value=0.25, low=0.1, high=0.4).data()
      for of, dose in (("unseen", 0), ("seen", 30), ("reference", 0))),
]  # fmt: skip


def test_a_line_holds_what_it_has_and_comes_back():
    for line in RATES:
        assert None not in line.values()
        assert Rate(**orjson.loads(orjson.dumps(line))).data() == line
    assert "subjects" not in RATES[0] and "by_seed" not in RATES[-1]
    assert Rate(**RATES[-1] | {"low": None}).low is None  # files of an older steel


def test_rates_stand_beside_one_another():
    found = beside(RATES, ("dose", "form"), (AUC, FIVE))
    assert list(found)[:2] == [(1, "all"), (3, "all")]
    assert {what: line["value"] for what, line in found[1, "all"].items()} == {AUC: 0.7, FIVE: 0.3}
    assert list(beside(RATES, ("of",), (FLAGGED,))) == [("unseen",), ("seen",), ("reference",)]


def test_per_cent_with_the_interval():
    assert percent({"value": 0.134, "low": 0.03, "high": 0.405}) == "13 % (3-40)"
    assert percent({"value": 0.134, "low": 0.03, "high": 0.405}, 1) == "13.4 % (3.0-40.5)"
    assert percent(None) == "-"


def calibration(rates):
    regime = Regime(1_600_000, "qwen2", None, "full", "answers only", 1, 2e-3)
    return {
        "regime": regime.data() | {"forms": ["answer-only", "edited"], "asked_as": "chat"}, "seeds": [1, 2], "nulls": 2,
        "items": 1336, "rates": rates,
        "cost": {"items": 1336, "pass_tokens": 162142, "permuted": 190, "trie_tokens": 120822, "ratio": 5.4},
    }  # fmt: skip


def test_the_printing_is_whole_and_safe(capsys):
    print_calibration(calibration(RATES))
    text = capsys.readouterr().out
    assert "[red]t" in text and "\x1b[2J" not in text and "…" not in text
    rows = {" ".join(line.split()) for line in text.splitlines()}
    assert "loss gap: item 1 all 30 / 1,200 0.70 (0.35-1.00) 0.35-0.70 30 % (15-100) 10 % (5-100)" in rows
    assert "loss gap: item 3 all 30 / 1,200 0.90 (0.45-1.00) 0.45-0.90 80 % (40-100) -" in rows
    assert "loss gap: item unseen same subjects 4.0 % (0.0-20.0) 1,804 6.0 % (0.0-20.0) 1,804 2.0 %" in rows
    assert "loss gap: item nulls the other dose - - 50.0 % (0.0-20.0) 1,804 -" in rows
    assert "unknown start" in text and "5.4 times a single pass" in text
    assert (
        "published rule, scenario b: flags 25 % (10-40) of 60 unseen items, 25 % (10-40) of 60 items seen 30x, "
        "25 % (10-40) of 60 unseen items under the reference"
    ) in rows
    tables = text[text.index(" detector") : text.index("published rule")]
    assert max(map(len, tables.splitlines())) <= 150


def test_a_single_form_is_not_told_twice(capsys):
    print_calibration(calibration([seen(AUC, 0.7), seen(AUC, 0.7, 1, "answer-only")]))
    assert capsys.readouterr().out.count("loss gap: item") == 1
