"""Calibration of a finished study, end to end at toy size: what was learnt is told, what was not is not accused."""

from dataclasses import replace

import numpy as np
import orjson
import pytest
from tests.steel_eval import toys

from steel_data.errors import InputError
from steel_eval.leak import kept
from steel_eval.leak.kept import How
from steel_eval.leak.measure import IN_CONTEXT, MEASURES, Texts, measure
from steel_eval.leak.rates.calibrate import Pair, calibrate, overlap_by_form
from steel_eval.leak.rates.published import forest_value
from steel_eval.leak.rates.table import ALONE, AUC, BENCHMARKS, FLAGGED, HITS, ITEMS, beside
from steel_eval.models import load
from steel_eval.stats.effects import Items


def drawn(lab):
    """Doses 2 for what the lab's model learnt; two forms by turns."""
    dose = np.array([2 if i.item in lab.seen else 0 for i in lab.items])
    form = [("answer-only", "text")[k // 2 % 2] if d else "" for k, d in enumerate(dose)]
    subject = np.unique([i.subject for i in lab.items], return_inverse=True)[1]
    return Items(dose, subject, np.arange(len(dose))), form


@pytest.fixture(scope="module")
def measured(lab, tmp_path_factory):
    how = How(form="chat", permute=20, in_context=2, device="cpu", forests=5, cache=tmp_path_factory.mktemp("cache"))
    pairs = [Pair(model=lab.model, reference=lab.base, seed=1)]
    nulls = [Pair(model=lab.base, reference=lab.base, seed=2)]
    known, form = drawn(lab)
    return how, (pairs, nulls, lab.items, known, form), calibrate(pairs, nulls, lab.items, known, form, how)


def lines(result, *what):
    return [line for line in result["rates"] if line["what"] in what]


def test_every_detector_has_rates_for_every_dose_and_form(measured):
    _, _, result = measured
    assert orjson.loads(orjson.dumps(result)) == result
    rows = beside(result["rates"], ("detector", "form"), (AUC, ALONE, *HITS))
    assert {d for d, _ in rows} == {m.name for m in (*MEASURES, *IN_CONTEXT)}
    assert result["cost"]["context_tokens"] > 0
    for name, needs_orders in ((m.name, m.name.startswith("permutation")) for m in (*MEASURES, IN_CONTEXT[0])):
        auc = rows[name, "all"][AUC]
        assert (auc["dose"], auc["n"], auc["unseen"]) == (2, 20, 20) if needs_orders else (2, 24, 24)
        assert auc["low"] > 0.5, name
        assert set(rows[name, "all"]) == {AUC, ALONE, "hits at 5 %"}  # too few unseen items for 1 %
        assert rows[name, "answer-only"][AUC]["n"] + rows[name, "text"][AUC]["n"] == auc["n"]
    first = rows["loss gap: item", "all"]
    assert first["hits at 5 %"]["value"] == 1 and first[AUC]["by_seed"] == [1] and first[ALONE]["value"] > 0.9


def test_items_of_a_mixture_of_forms_are_asked_in_their_own(measured, lab):
    how, (pairs, nulls, items, known, form), in_chat = measured
    result = calibrate(pairs, nulls, items, known, form, replace(how, form="auto", permute=0, cache=None))
    assert result["regime"]["asked_as"] == "chat and text" != in_chat["regime"]["asked_as"]
    areas = {r["form"]: r["value"] for r in lines(result, AUC) if r["detector"] == "loss gap: item"}
    assert areas["answer-only"] > 0.9, "the lab's model learnt the chat form"


def test_what_none_saw_is_not_accused(measured):
    _, _, result = measured
    sets = {(r["detector"], r["of"], r["controls"]): r for r in lines(result, BENCHMARKS)}
    for key, row in sets.items():
        if key[1] == "nulls":
            assert row["value"] == 0, key  # the base against itself does not change
    assert sets["loss gap: item", "unseen", "same subjects"]["n"] == 1  # 24 unseen items are one benchmark
    assert sets["loss gap: item", "nulls", "the other dose"]["n"] == 1
    items = [r for r in lines(result, ITEMS) if r["of"] == "nulls" and r["detector"] == "min-k % 20"]
    assert [r["value"] for r in items] == [0, 0] and all(r["high"] > 0.1 for r in items)


def test_published_rules_are_tried_on_what_none_saw(measured):
    flags = lines(measured[2], FLAGGED)
    rows = {(r["detector"][:10], r["of"]): r for r in flags}
    assert rows["scenario a", "seen"]["value"] > 0.8 > 0.4 > rows["scenario a", "unseen"]["value"]
    assert rows["completion", "seen"]["value"] > 0.9 and rows["completion", "reference"]["value"] < 0.2
    forest = [r for r in flags if r["detector"].startswith("scenario b")]
    assert len(forest) == 9 and {r["n"] for r in forest} == {5}
    for of in ("unseen", "seen", "reference"):
        shares = [r["value"] for r in forest if r["of"] == of]
        assert shares == sorted(shares)  # a laxer threshold flags no less


def test_a_lonely_maximum_is_an_outlier_and_noise_often_is_one_too():
    rng = np.random.default_rng(0)
    assert forest_value(np.r_[9.0, rng.normal(0, 1, 23)]) < -0.2
    noise = np.array([forest_value(rng.normal(0, 1, 24)) for _ in range(12)])
    assert (noise < -0.15).sum() > 0  # two thirds of 200 draws, docs/contamination.md


def test_permutations_cost_less_than_ten_passes(measured):
    cost = measured[2]["cost"]
    assert cost["permuted"] == 40 and cost["items"] == 48
    assert 1 < cost["ratio"] < 24 / 1.8
    assert cost["trie_tokens"] > cost["ratio"] * 40 * 20


def test_nothing_is_measured_twice(measured, monkeypatch):
    how, arguments, result = measured
    assert len(list(how.cache.glob("*.parquet"))) == 2  # base and model; the null adds none

    def refuse(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr(kept, "measure", refuse)
    assert calibrate(*arguments, how) == result
    with pytest.raises(AssertionError, match="again"):
        calibrate(*arguments, replace(how, permute=3))
    with pytest.raises(AssertionError, match="again"):
        calibrate(*arguments, replace(how, form="plain"))


def test_kept_scores_are_what_was_measured(measured, lab):
    how, _, _ = measured
    loaded = load(lab.base)
    texts = Texts(lab.items, [0, 2], "chat", loaded.tokenizer)
    fresh = kept.measured(lab.base, texts, how)
    again = kept.measured(lab.base, texts, how)
    direct = measure(loaded, texts)
    for found in (fresh, again):
        for name, values in direct.scores.items():
            assert np.array_equal(found.scores[name], values, equal_nan=True), name
        assert np.array_equal(found.orders_IK, direct.orders_IK, equal_nan=True)
        assert (found.pass_tokens, found.trie_tokens) == (direct.pass_tokens, direct.trie_tokens)
    assert (direct.trie_I > 0).nonzero()[0].tolist() == [0, 2]


def test_weights_decide_what_is_kept_and_not_the_folders_name(measured, lab, tmp_path):
    how, _, _ = measured
    tokenizer = load(lab.base).tokenizer
    texts = Texts(lab.items[:2], [], "chat", tokenizer)
    folder = toys.save(tmp_path / "checkpoint", seed=0)
    first = kept.measured(folder, texts, how)
    toys.save(folder, seed=1)
    second = kept.measured(folder, texts, how)
    assert not np.allclose(first.scores["loss gap: item"], second.scores["loss gap: item"])


def test_overlap_is_measured_for_each_form(lab):
    known, form = drawn(lab)
    rows = {r["form"]: r for r in overlap_by_form(lab.mixture, lab.items, known, form)}
    assert set(rows) == {"answer-only", "text", "unseen"}
    assert rows["text"]["share"] == rows["answer-only"]["share"] == 1
    assert (rows["unseen"]["items"], rows["unseen"]["found"]) == (24, 0)
    assert rows["unseen"]["high"] > 0.1


def test_what_is_no_study_is_refused(lab, tmp_path):
    known, form = drawn(lab)
    pair = Pair(model=lab.model, reference=lab.base, seed=1)
    how = How(device="cpu")
    with pytest.raises(InputError, match="no pair"):
        calibrate([], [], lab.items, known, form, how)
    with pytest.raises(InputError, match="seen and unseen"):
        calibrate([pair], [], lab.items, replace(known, dose=known.dose * 0), form, how)
    with pytest.raises(InputError, match="--form prose"):
        replace(how, form="prose")
    other = toys.save(tmp_path / "big", hidden_size=256)
    with pytest.raises(InputError, match="another kind of model"):
        calibrate([pair, replace(pair, model=other)], [], lab.items, known, form, how)
