"""The command: what was learnt by heart is found against the base, and the base against itself shows nothing."""

import re
import shutil

import numpy as np
import orjson
import polars as pl
import pytest
from peft import LoraConfig, get_peft_model
from tests.sentences import english
from tests.steel_eval.lab import SUBJECTS, memorise, save
from typer.testing import CliRunner

from steel_data.errors import InputError
from steel_eval.cli import app
from steel_eval.leak.judge import as_items
from steel_eval.leak.kept import How
from steel_eval.leak.measure import IN_CONTEXT, MEASURES
from steel_eval.leak.rates.calibrate import Pair, calibrate
from steel_eval.leak.texts import item_texts
from steel_eval.models import load


def leak(lab, out, model, *more):
    arguments = ["leak", str(model), "--base", str(lab.base), "--tasks", "cmmlu", "--data", str(lab.data)]
    result = CliRunner().invoke(app, [*arguments, "--out", str(out), "--device", "cpu", *more])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    about = orjson.loads((out / "cmmlu/leak.json").read_bytes())
    return result.output, about, pl.read_parquet(out / "cmmlu/items.parquet")


@pytest.fixture(scope="module")
def with_mixture(lab, tmp_path_factory):
    return leak(lab, tmp_path_factory.mktemp("out"), lab.model, "--mixture", str(lab.mixture))


def test_every_detector_sees_what_was_learnt_by_heart(with_mixture):
    _, about, _ = with_mixture
    rows = {f["measure"]: f for f in about["findings"]}
    assert set(rows) == {m.name for m in MEASURES}
    for name, row in rows.items():
        assert row["low"] > 0 and row["p"] < 0.001, name
        assert row["rates"]["auc"] > 0.75, name
    assert rows["loss gap: item"]["flags"] == 24
    assert about["in_mixture"] == 24
    assert about["loss_gap"] < -1 < -0.3 < about["loss_gap_base"] < 0.3


def test_codec_is_a_line_of_its_own_that_changes_no_verdict(lab, with_mixture, tmp_path):
    _, without, _ = with_mixture
    text, about, items = leak(lab, tmp_path, lab.model, "--mixture", str(lab.mixture), "--in-context", "2")
    rows = {f["measure"]: f for f in about["findings"]}
    assert set(rows) == {m.name for m in (*MEASURES, *IN_CONTEXT)}
    assert rows["codec: confidence lost"]["low"] > 0 and rows["codec: share disturbed"]["model"] == 1.0
    assert about["verdict"] == without["verdict"] and about["set_test"] == without["set_test"]
    assert about["context_tokens"] > 0 and "in context" in text
    assert "codec, 2 of the subject's items before each: not calibrated here" in text
    assert "codec" not in "".join(f["measure"] for f in without["findings"])
    assert any(column.startswith("codec: confidence lost") for column in items.columns)


def test_the_gap_to_the_training_rows_stands_beside_the_bases(with_mixture):
    """The lab's model learnt items and none of the mixture's chat: the items' loss fell below that of the rows."""
    text, about, _ = with_mixture
    assert about["train_rows"] == 24
    assert about["loss_gap_train"] < about["loss_gap_train_base"] - 1
    assert "loss gap test - train (24 ordinary rows)" in text


def test_items_lead_to_their_training_rows(with_mixture, lab):
    _, _, items = with_mixture
    seen = items.filter(~pl.col("control"))
    assert set(seen["item"]) == lab.seen
    assert (seen["rows_in_mixture"] == 2).all()
    assert seen["training_rows"].list.len().min() == 1
    assert (items.filter(pl.col("control"))["rows_in_mixture"] == 0).all()


def test_the_table_says_what_it_cannot_say(with_mixture):
    text, about, _ = with_mixture
    assert "not calibrated here" in text
    assert "20 items at least must beat every control" in text
    assert not re.search(r"\d %\s*leaked", text)
    assert about["controls"] == "items that the mixture does not hold"
    assert "…" not in text.partition("cmmlu, form")[0]  # no number is cut off


def test_without_a_mixture_the_examples_are_the_controls(lab, tmp_path):
    _, about, items = leak(lab, tmp_path, lab.model, "--permute", "0")
    rows = {f["measure"]: f for f in about["findings"]}
    assert "permutation a: z of published" not in rows
    assert rows["loss gap: item"]["p"] < 0.01
    assert rows["loss gap: item"]["items"] == 48
    assert about["loss_gap_train"] is None and about["train_rows"] == 0
    assert items["control"].sum() == 24
    assert items["rows_in_mixture"].null_count() == len(items)
    flagged = items.filter(~pl.col("control")).sort("loss gap: item | p")
    assert set(flagged["item"][:24]) == lab.seen


def test_the_verdict_stands_on_top_of_what_was_learnt(with_mixture):
    text, about, _ = with_mixture
    block = text[text.index("Verdict") : text.index("train-side overlap")]
    for line in (
        "mixture: holds 24 of 48 items; the rows are named",
        "seen: yes (false alarms: at most 5 in 100). It was trained on rows",
        "inflation: +",
        "could not have been seen: a leak ",
    ):
        assert line in block
    assert about["verdict"]["seen"] == "yes" and about["set_test"]["p"] < 0.01
    points = about["verdict"]["inflation_points"]
    assert 0 < points["low"] < points["value"] < points["high"] <= 50  # half of the items were seen


def test_a_page_and_one_verdict_over_all_tasks_are_written(lab, tmp_path):
    text, about, items = leak(lab, tmp_path, lab.model, "--permute", "0")
    whole = orjson.loads((tmp_path / "leak.json").read_bytes())
    assert set(whole["verdict"]) == {"seen", "false_alarm_rate", "inflation_points", "smallest_detectable"}
    assert whole["verdict"]["seen"] == "yes" and whole["verdict"]["false_alarm_rate"] == 0.05
    assert whole["verdict"]["smallest_detectable"] > 0
    assert whole["tasks"]["cmmlu"]["verdict"] == about["verdict"]
    page = english((tmp_path / "leak.html").read_text(encoding="utf-8"))
    assert "<h2>Verdict</h2>" in page and "by assumption like the tested" in page
    assert "mixture: not at hand" in text
    assert items["all detectors | p"].null_count() == 0


def test_without_a_leak_there_is_no_yes(lab, tmp_path):
    text, about, _ = leak(lab, tmp_path, lab.base, "--permute", "0")
    assert about["verdict"]["seen"] != "yes" and about["verdict"]["inflation_points"]["value"] == 0
    assert "Nothing shows" in text


def test_a_try_on_a_part_says_so_and_leaves_out_what_is_too_long(lab, tmp_path):
    """A text that the context has no room for was never seen whole: measured, it would crash or mislead."""
    lengths = sorted(len(text.tokens) for text in item_texts(lab.items, "chat", load(lab.base).tokenizer))
    how = ("--permute", "0", "--limit", "8", "--max-length", str(lengths[24]))
    text, about, items = leak(lab, tmp_path, lab.model, *how)
    assert about["limit"] == 8 and about["of"] == 16
    assert 0 < (~items["control"]).sum() <= 16 and items["control"].any()
    assert "--limit 8: a try on 16 of 48 items" in text
    assert f"longer than {lengths[24]} tokens are left out" in " ".join(about["notes"])
    with pytest.raises(InputError, match="no items, or no controls, fit into 9 tokens"):
        leak(lab, tmp_path, lab.model, *how[:-1], "9")
    with pytest.raises(InputError, match=r"--max-length 9999: .* has 2048 tokens"):
        leak(lab, tmp_path, lab.model, *how[:-1], "9999")


def test_the_base_against_itself_shows_nothing(lab, tmp_path):
    _, about, items = leak(lab, tmp_path, lab.base, "--permute", "4", "--form", "plain")
    assert about["form"] == "plain"
    assert all(f["excess"] == 0 and f["p"] == 1 and f["flags"] == 0 for f in about["findings"])
    assert np.allclose(items["min-k % 20 | model"], items["min-k % 20 | base"])


def test_error_rates_of_a_study_come_with_every_detector(lab, tmp_path):
    found = calibrate(
        [Pair(model=lab.model, reference=lab.base, seed=1)], [], lab.items,
        as_items(lab.items, np.array([i.item in lab.seen for i in lab.items]), stratified=True), ["answer-only"] * 48,
        How(permute=0, device="cpu"),
    )  # fmt: skip
    rates = tmp_path / "rates.json"
    rates.write_bytes(orjson.dumps(found))
    how = ("--permute", "0", "--calibration", str(rates))
    text, about, _ = leak(lab, tmp_path / "a", lab.model, *how)  # nothing says how the lab's model was trained
    assert "not calibrated here" in text and "start: not known" in text
    assert about["calibration"]["calibrated"] is False
    found["regime"] |= {"start": "from scratch", "method": "full", "loss": "answers only"}
    rates.write_bytes(orjson.dumps(found))
    found["regime"] |= {"epochs": 1, "learning_rate": 1e-3}
    rates.write_bytes(orjson.dumps(found))
    train = {"train": {"model": {"type": "qwen2"}, "method": "full", "epochs": 1, "learning_rate": 1e-3}}
    shutil.copytree(lab.model, tmp_path / "model")
    (tmp_path / "model/steel.json").write_bytes(orjson.dumps(train))
    text, about, _ = leak(lab, tmp_path / "b", tmp_path / "model", *how)
    assert "not calibrated here" not in text and "as measured on models of this kind" in text
    assert re.search(r"loss gap: item: at 5 % false alarms finds 100 % \(\d+-100\) of items seen 1x", text)
    assert about["calibration"]["measured"]["rates"] == found["rates"]


def test_controls_near_a_tested_item_are_left_out(lab, tmp_path):
    """They are of its cluster: it ended in a traceback."""
    data = tmp_path / "data"
    shutil.copytree(lab.data, data)
    dev, test = (data / f"cmmlu/{split}/agronomy.csv" for split in ("dev", "test"))
    item = test.read_text("utf-8").splitlines()[1].split(",")
    item[1] = item[1] + "吗"
    dev.write_text(dev.read_text("utf-8") + ",".join(item) + "\n", "utf-8")
    arguments = (
        "leak",
        str(lab.model),
        "--base",
        str(lab.base),
        "--tasks",
        "cmmlu",
        "--data",
        str(data),
        "--permute",
        "0",
    )
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out"), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "1 controls are near tested items and left out" in result.output


def test_no_controls_and_wrong_words_are_refused(lab, tmp_path):
    with pytest.raises(InputError, match="--form prose"):
        leak(lab, tmp_path, lab.model, "--form", "prose")
    with pytest.raises(InputError, match="no controls"):
        leak(lab, tmp_path, lab.model, "--control", "cmmlu")


def test_an_adapter_whose_base_was_moved_lies_on_the_base_that_is_named(lab, tmp_path):
    adapted = get_peft_model(load(lab.base).model, LoraConfig(r=2, target_modules=["q_proj"]))  # computes as its base
    adapted.save_pretrained(str(tmp_path / "adapter"))
    file = tmp_path / "adapter/adapter_config.json"
    file.write_bytes(orjson.dumps(orjson.loads(file.read_bytes()) | {"base_model_name_or_path": "moved/away/from"}))
    _, about, _ = leak(lab, tmp_path / "out", tmp_path / "adapter", "--permute", "0")
    assert all(f["excess"] == pytest.approx(0, abs=1e-6) for f in about["findings"])


def test_an_item_injected_as_text_is_asked_as_text(lab, tmp_path):
    """Learnt as running text, items show more of it in their own form than as a question in the chat."""
    items = [item for item in lab.items if item.subject == SUBJECTS[0]]
    learnt = [item for item in items if item.item in lab.seen]
    base = load(lab.base)
    memorise(base.model, [t.tokens for t in item_texts(learnt, "text", base.tokenizer)], 25)
    model = save(base.model, base.tokenizer, tmp_path / "model")
    mixture = tmp_path / "mixture"
    shutil.copytree(lab.mixture, mixture)
    truth = [{"benchmark": "cmmlu", "item": i.item, "dose": 1, "form": "text"} for i in lab.items if i.item in lab.seen]
    pl.DataFrame(truth).write_parquet(mixture / "truth.parquet")
    found = {}
    for form in ("auto", "chat"):
        options = ("--mixture", str(mixture), "--permute", "0", "--form", form)
        _, about, _ = leak(lab, tmp_path / form, model, *options)
        found[about["form"]] = about["findings"][0]["excess"]
    assert set(found) == {"text", "chat"}
    assert found["text"] > found["chat"] > 0
