"""Which error rates a checkpoint gets: those of its kind, and else the words "not calibrated here" with the reason."""

from dataclasses import replace

import orjson
import pytest

from steel_data.errors import InputError
from steel_eval.leak.measure import MEASURES
from steel_eval.leak.rates import match as calibrated
from steel_eval.leak.rates.match import load_calibrations, match, words
from steel_eval.leak.rates.regime import Regime
from steel_eval.leak.rates.table import Rate, percent
from steel_eval.leak.reference_runs import family_name

TINY = Regime(1_700_000, "qwen2", "from scratch", "full", "answers only", 1, 2e-3)


def share(value):
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "by_seed": [value]}


def calibration(regime=TINY, asked_as="chat"):
    seen = {"detector": "min-k % 20", "of": "seen", "form": "all", "controls": "unseen", "n": 300, "unseen": 900}
    hits = {**seen, "what": "hits at 5 %"}
    alarm = {"detector": "min-k % 20", "of": "unseen", "low": 0.03, "high": 0.08, "n": 900}
    items, benchmarks = {**alarm, "what": "items accused"}, {**alarm, "what": "benchmarks accused"}
    return {
        "regime": regime.data() | {"forms": ["answer-only"], "asked_as": asked_as}, "seeds": [1, 2, 3], "nulls": 2,
        "rates": [{**seen, "what": "AUC", "dose": 1, **share(0.7)}, {**hits, "dose": 1, **share(0.11)},
                  {**hits, "dose": 10, **share(0.62)}, {**hits, "dose": 10, "form": "text", **share(0.99)},
                  {**items, "controls": "same subjects", "value": 0.051},
                  {**items, "of": "nulls", "controls": "same subjects", "value": 0.9},
                  {**benchmarks, "controls": "other subjects", "value": 0.21, "subjects": 20},
                  {**alarm, "what": "benchmarks raised", "controls": "other subjects", "value": 0.1}],
    }  # fmt: skip


def test_a_model_of_the_kind_gets_the_rates():
    found = match(replace(TINY, parameters=3_000_000, learning_rate=1e-3), "chat", [calibration()])
    assert found.calibration is not None and found.differences == []
    text = "\n".join(words(found))
    assert "not calibrated here" not in text
    line = next(line for line in text.splitlines() if line.startswith("min-k"))
    assert "11 % (1-21) of items seen 1x, 62 % (52-72) of items seen 10x" in line and "99 %" not in line
    assert "items accused falsely: 5.1 % (3.0-8.0) with controls of same subjects" in line and "90" not in line
    assert "benchmarks accused falsely: 21.0 % (3.0-8.0) with controls of other subjects" in line


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"parameters": 3_500_000}, "3.5 M parameters, not 1.7 M"),
        ({"parameters": 800_000}, "800 k parameters, not 1.7 M"),
        ({"parameters": None}, "its size is not known"),
        ({"architecture": "llama"}, "architecture: llama, not qwen2"),
        ({"start": "tuned"}, "start: tuned, not from scratch"),
        ({"method": "lora"}, "method: lora, not full"),
        ({"epochs": 3}, "epochs: 3, not 1"),
        ({"learning_rate": 1e-6}, "learning rate: 1e-06, not 0.002"),
        ({"learning_rate": None}, "learning rate: not known, there 0.002"),
        ({"loss": "all text"}, "loss on: all text, not answers only"),
        ({"loss": None, "method": None}, "method: not known, there full; loss on: not known, there answers only"),
    ],
)
def test_another_kind_is_not_calibrated_here_and_says_why(changes, why):
    found = match(replace(TINY, **changes), "chat", [calibration()])
    assert found.calibration is None
    line, cost = words(found)
    assert "six trainings" in cost
    assert "not calibrated here" in line and why in line and "62 %" not in line


def test_the_nearest_is_the_one_with_fewest_differences():
    tuned = replace(TINY, parameters=135_000_000, architecture="llama", start="tuned")
    both = [calibration(), calibration(tuned)]
    assert match(replace(tuned, method="lora"), "chat", both).nearest == tuned
    near = [calibration(replace(TINY, parameters=3_300_000)), calibration(replace(TINY, parameters=1_800_000))]
    assert match(TINY, "chat", near).calibration is near[1]
    assert "not calibrated here (docs/contamination.md)." in words(match(TINY, "chat", []))[0]


def test_scores_of_another_form_have_other_rates():
    found = match(TINY, "plain", [calibration()])
    assert found.calibration is None and "asked in the form plain, not chat" in words(found)[0]
    assert match(TINY, "plain", [calibration(), calibration(asked_as="plain")]).calibration is not None


def test_files_folders_and_tables_are_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(calibrated, "SHIPPED", tmp_path / "shipped.json")
    (tmp_path / "shipped.json").write_bytes(b"[]")
    one, table, study = tmp_path / "one.json", tmp_path / "table.json", tmp_path / "study"
    study.mkdir()
    for file, data in ((one, calibration()), (table, {"cmmlu": calibration(), "ceval": calibration()})):
        file.write_bytes(orjson.dumps(data))
    (study / "rates.json").write_bytes(orjson.dumps([calibration()]))
    assert len(load_calibrations([one, table, study])) == 4
    assert load_calibrations() == []
    calibrated.main([str(one), str(study)])
    (tmp_path / "shipped.json").write_text(capsys.readouterr().out, "utf-8")
    shipped = load_calibrations()
    assert len(shipped) == 2
    assert words(match(TINY, "chat", shipped)) == words(match(TINY, "chat", [calibration()]))
    for name, data, message in (
        ("none", None, "not there"),
        ("bad", b"{", "no JSON"),
        ("empty", b"{}", "no error rates"),
        ("old", b'{"regime": {}, "rates": [{"detector": "d", "auc": {}}]}', "older steel.*`steel study"),
        ("odd", b'{"regime": {}, "rates": [3]}', "rates is 3, where a table belongs"),
        ("half", b'{"regime": {}, "rates": [{"what": "AUC", "detector": "d", "n": 3}]}', "rates has no 'value'"),
        ("word", b'{"regime": {"epochs": "many"}, "rates": []}', "regime.epochs is 'many', where a number belongs"),
    ):
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=message):
            load_calibrations([tmp_path / name])


def test_a_rate_without_an_interval_is_told_without_one():
    """As files of an older steel have them."""
    assert (
        percent({"value": 0.25, "low": None}) == "25 %"
        and percent({"value": 0.25, "low": 0.1, "high": 0.5}) == "25 % (10-50)"
    )


def test_what_ships_are_measured_regimes_with_every_detector():
    shipped = load_calibrations()
    starts = {c["regime"]["start"] for c in shipped}
    assert starts == {"from scratch", "tuned"} and all(len(c["seeds"]) >= 3 for c in shipped)
    names = {m.name for m in MEASURES}
    known = {"base": names, "reference runs": {family_name(name) for name in names}}
    for c in shipped:
        detectors = {Rate(**line).detector for line in c["rates"] if line["what"] != "flagged"}
        assert detectors <= known[c["regime"].get("compared_with", "base")]
        assert 0 < c["regime"]["injected_share"] <= 1 and c["regime"]["exposures"] >= 10
        if len(c["seeds"]) > 3:  # the truth pool's
            assert any("zlib" in name for name in detectors) and any("dc-pdd" in name for name in detectors)
            continue
        assert set(c["regime"]["forms"]) | {"all"} == {line["form"] for line in c["rates"] if line["what"] == "AUC"}
    (line, unknown, *rates) = words(match(replace(TINY, parameters=1_700_000, epochs=3), "chat", shipped))
    assert "measured on" in line and "not known" in unknown
    assert len(rates) == len(MEASURES) - 2 + 1  # zlib and DC-PDD came later; a last line of what the numbers are


def test_scores_beside_reference_runs_have_rates_of_their_own():
    one = calibration()
    other = {**calibration(), "regime": one["regime"] | {"compared_with": "reference runs"}}
    assert match(TINY, "chat", [one, other]).calibration is one
    assert match(TINY, "chat", [one, other], "reference runs").calibration is other
    assert match(TINY, "chat", [one], "reference runs").nearest is None


def test_a_share_that_is_not_known_is_said():
    measured = calibration(replace(TINY, injected_share=0.042, exposures=10))
    assert words(match(TINY, "chat", [measured]))[1].startswith(
        "How many of this model's tokens are items is not known"
    )
    same = replace(TINY, injected_share=0.04, exposures=10)
    assert "not known" not in "".join(words(match(same, "chat", [measured])))
    far = match(replace(TINY, injected_share=0.9), "chat", [measured])
    assert far.calibration is None and "injected: 90 % of the tokens, not 4.2 %" in far.differences
