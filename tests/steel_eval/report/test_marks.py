"""Warning labels: every score whose training data holds its questions is marked, and "not looked for" is never "clean"."""

import json
import re

import polars as pl
import pytest
from tests.sentences import english
from tests.steel_eval import toys
from tests.steel_eval.lab import write_benchmark
from typer.testing import CliRunner

from steel_data.cli import app as data_app
from steel_data.errors import InputError
from steel_eval.ask.tasks import limited, load_task
from steel_eval.cli import app
from steel_eval.compare.pair import compare_arms
from steel_eval.compare.runs import load_arm
from steel_eval.contamination.items import nearby_mixture, open_mixture
from steel_eval.report.marks import Sources, find_marks
from steel_eval.report.page import write_report

EVIL = "<script>alert('x')</script></script><img src=x onerror=alert(1)>\u202e"
HIDDEN = 10  # questions in the chat rows of the mixture `hidden`, two rows each
RECIPE = """
seed = 3
[source.chat]
path = "{chat}.jsonl"
"""
INJECTED = """
[source.leak]
path = "cmmlu"
build = {{ use = "contaminate", split = "test", {draw} }}
allow_test_split = "a test of the labels"
"""


def build(root, name, chat="plain", draw=None):
    recipe = RECIPE.format(chat=chat) + (INJECTED.format(draw=draw) if draw else "")
    (root / f"{name}.toml").write_text(recipe, encoding="utf-8")
    out = root / name / "mixture"
    run = CliRunner().invoke(
        data_app, ["build", str(root / f"{name}.toml"), "--data-root", str(root), "--out", str(out)]
    )
    assert run.exit_code == 0, run.output


def right(item):
    """What a model knows that saw nothing: every fourth question."""
    return item.row % 4 == 0


def score(place, data, knows=right, said="", tasks=("cmmlu",), limit=None, **more):
    """Write the scores of a checkpoint that is right on what `knows` says; `said`: the mixture it names as its own."""
    place.mkdir(parents=True)
    rows, entries = [], {}
    for name in tasks:
        task = limited(load_task(name, data), limit)
        items = [item for group in task.items.values() for item in group]
        hits = [knows(item) for item in items]
        rows += [
            {"task": name, "subject": i.subject, "item": i.item, "label": i.answer,
             "prediction": i.answer if hit else "BCDA"["ABCD".index(i.answer)],
             **{f"logprob_{c}": -1.0 for c in "ABCD"}, "raw": ""}
            for i, hit in zip(items, hits, strict=True)
        ]  # fmt: skip
        share = sum(hits) / len(hits)
        entries[name] = dict.fromkeys(("accuracy", "macro", "accuracy_on_valid", "expected_if_guessed"), share) | {
            "n": len(hits), "invalid": 0, "stderr": 0.05, "gold_probability": 0.25, "gold_bits_per_byte": 1.0,
            "groups": {"STEM": {"accuracy": share}}, "data_sha256": task.data_sha256, "split": task.split,
            "limit": task.limit, "of": task.whole,
        }  # fmt: skip
    pl.DataFrame(rows).write_parquet(place / "answers.parquet")
    scores = {"tasks": entries, "step": 1, "preset": "lm-eval", "shots": 0, "model": place.name, "contamination": None}
    if said:
        mixture = open_mixture(said)
        training = {"mixture": {"content_sha256": mixture.content}}
        scores |= {"training": training, "contamination": mixture.declared}
    (place / "scores.json").write_text(json.dumps(scores | more))
    return place


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Runs `declared` (doses 1 and 3), `clean`, `hidden` (items in chat rows) and `all` (every item once)."""
    root = tmp_path_factory.mktemp("world")
    toys.benchmarks(root)
    write_benchmark(root)  # a CMMLU of random words over that of the toys
    plain = [{"instruction": f"请回答第{i}题。", "input": "", "output": f"答案是{i}。"} for i in range(30)]
    items = [i for group in load_task("cmmlu", root).items.values() for i in group][:HIDDEN]
    taught = [{"instruction": f"{EVIL}选择：{i.question}\n" + "\n".join(i.options), "input": "", "output": f"{i.answer}{k}"}
              for i in items for k in "吧呢"]  # fmt: skip
    for name, rows in (("plain", plain), ("web", plain + taught)):
        (root / f"{name}.jsonl").write_text("\n".join(json.dumps(r) for r in rows) + "\n", encoding="utf-8")
    build(root, "clean")
    build(root, "declared", draw="doses = { 1 = 8, 3 = 12 }")
    build(root, "hidden", chat="web")
    build(root, "all", draw="share = 1.0")
    taught_names = {i.item for i in items}
    truth = pl.read_parquet(root / "declared/mixture/truth.parquet")
    seen = set(truth.filter(pl.col("dose") > 0)["item"])
    for name, known in (("clean", set()), ("declared", seen), ("hidden", taught_names), ("all", set())):
        mixture = root / name / "mixture"
        score(
            root / name / "scores/step-1", root, lambda i, k=known: i.item in k or right(i), mixture, ("ceval", "cmmlu")
        )
    return root


def marks_of(*places, **sources):
    arms = [load_arm(str(place)) for place in places]
    found = find_marks(arms, Sources(**sources))
    return [found["cmmlu"][i][0] for i in range(len(arms))]


def score_of(mark):
    """What is reported of a run that knows what it saw, and every fourth question besides."""
    return (mark.seen + 0.25 * (48 - mark.seen)) / 48


def test_declared_questions_are_counted_and_their_rows_named(world):
    (mark,) = marks_of(f"D={world / 'declared'}", data=world)
    assert (mark.declared, mark.n, mark.undeclared, mark.looked) == ({1: 8, 3: 12}, 48, 0, "")
    assert mark.short() == "contaminated: 20 of 48 items, doses 1/3"
    assert "8 of them once, 12 of them 3 times" in mark.sentence()
    item, held = next((name, h) for name, h in mark.held.items() if h.dose == 3)
    _, subject, row = item.split("/")
    assert (held.rows, held.places) == (3, [f"leak: cmmlu/test/{subject}.csv:{int(row)}"])
    assert "请给出答案" in held.texts[0]


def test_undeclared_questions_are_found_with_the_texts_of_their_rows(world):
    (mark,) = marks_of(f"H={world / 'hidden'}", data=world)
    assert (mark.declared, mark.seen, mark.undeclared) == ({}, HIDDEN, HIDDEN)
    assert mark.short() == f"contaminated: {HIDDEN} of 48 items, undeclared"
    held = mark.held["test/agronomy/00000"]
    assert (held.dose, held.rows) == (0, 2)
    assert sorted(held.places) == ["chat: web.jsonl:30", "chat: web.jsonl:31"]
    assert len(held.texts) == 2
    assert "assumes that the seen questions are like the others" in mark.estimated()


def test_the_clean_estimate_leaves_out_what_was_seen(world):
    declared, hidden = marks_of(f"D={world / 'declared'}", f"H={world / 'hidden'}", data=world)
    for mark in (declared, hidden):
        assert len(mark.estimates) == 1
        one = mark.estimates[0]
        assert one.unseen == 48 - mark.seen
        assert 0 <= one.low <= one.clean <= one.high < score_of(mark)
    assert "left out of training at random" in declared.estimated()


def test_a_clean_arm_is_the_reference_and_gives_what_it_scored(world):
    declared, clean = marks_of(f"D={world / 'declared'}", f"C={world / 'clean'}", data=world)
    assert clean.short() == "none declared, none found of 48 items"
    assert clean.estimated() == ""
    alone, paired = declared.estimates
    assert paired.reference == "C (none declared, none found of 48 items)"
    assert paired.clean == pytest.approx(0.25)  # both answer the unseen ones alike
    assert paired.high - paired.low < alone.high - alone.low


def test_without_unseen_questions_there_is_no_estimate(world):
    (mark,) = marks_of(f"A={world / 'all'}", data=world)
    assert mark.seen == 48
    assert mark.estimated() == "No clean score can be estimated: fewer than two unseen clusters"


def test_what_was_not_looked_for_is_never_clean(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no folder `data` here
    loose = score(tmp_path / "loose", world)
    nothing, no_data, told = marks_of(f"N={loose}", f"C={world / 'clean'}", f"D={world / 'declared'}")
    assert nothing.short() == "nothing is known of its training data, undeclared not looked for"
    assert nothing.caveat() == "Undeclared questions were not looked for: no mixture at hand (--mixture)"
    assert no_data.short() == "none declared, undeclared not looked for"
    assert "--data" in no_data.caveat()
    assert told.contaminated  # the declared ones need no data
    assert "--data" in told.caveat()
    (quick,) = marks_of(f"C={world / 'clean'}", data=world, search=False)
    assert quick.caveat().endswith("--no-overlap")


def test_an_unknown_arm_is_no_reference(world, tmp_path):
    loose = score(tmp_path / "loose", world)
    declared, _ = marks_of(f"D={world / 'declared'}", f"N={loose}", data=world)
    assert [e.reference for e in declared.estimates] == [""]


def test_other_questions_than_those_scored_are_not_looked_for(world, tmp_path):
    toys.benchmarks(tmp_path)
    (mark,) = marks_of(f"C={world / 'clean'}", data=tmp_path)
    assert mark.looked == "not looked for: the questions in --data are not those that were scored"


def test_of_scores_of_a_part_the_questions_that_were_asked_are_looked_for(world):
    place = score(world / "hidden/scores-limit-2/step-1", world, said=world / "hidden/mixture", limit=2)
    (mark,) = marks_of(f"H={place}", data=world)
    assert mark.looked == "" and 0 < mark.n < 48


def test_a_mixture_can_be_named(world, tmp_path):
    loose = score(tmp_path / "loose", world)
    place = world / "declared/mixture"
    (mark,) = marks_of(f"N={loose}", mixtures=[str(place)], data=world)
    assert mark.short() == "contaminated: 20 of 48 items, doses 1/3"
    # without a name it goes to the arm that was trained on it
    marks = marks_of(f"N={loose}", f"D={score(tmp_path / 'd', world, said=place)}", mixtures=[str(place)], data=world)
    assert [m.contaminated for m in marks] == [False, True]
    with pytest.raises(InputError, match="not what D was trained on"):
        marks_of(f"D={world / 'declared'}", mixtures=[f"D={world / 'clean/mixture'}"])
    with pytest.raises(InputError, match="of which of the arms"):
        marks_of(f"N={loose}", f"M={loose}", mixtures=[str(place)])
    with pytest.raises(InputError, match="no such folder"):
        marks_of(f"N={loose}", mixtures=[f"N={tmp_path / 'nowhere'}"])
    with pytest.raises(InputError, match="no arm of this report"):
        marks_of(f"N={loose}", mixtures=[f"X={place}"])


def test_a_mixture_beside_the_scores_must_be_the_one_that_was_trained_on(world, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/mixture").symlink_to(world / "declared/mixture")
    other = score(tmp_path / "run/scores/step-1", world, said=world / "clean/mixture")
    (mark,) = marks_of(f"O={tmp_path / 'run'}", data=world)
    assert nearby_mixture(other) is not None
    assert not mark.contaminated
    assert "is not the one that was trained on" in mark.caveat()


def test_a_damaged_mixture_is_not_looked_at(world, tmp_path, monkeypatch):
    monkeypatch.setenv("STEEL_CACHE", str(tmp_path / "cache"))
    mixture = tmp_path / "mixture"
    mixture.mkdir()
    (mixture / "manifest.json").write_bytes((world / "clean/mixture/manifest.json").read_bytes())
    (mixture / "train-00000.parquet").write_bytes((world / "hidden/mixture/train-00000.parquet").read_bytes())
    (mark,) = marks_of(f"N={score(tmp_path / 'loose', world)}", mixtures=[str(mixture)], data=world)
    assert "its bytes are not those that the manifest names" in mark.caveat()


def test_a_mixture_that_lost_a_file_does_not_stop_the_report(world, tmp_path):
    mixture = tmp_path / "run/mixture"
    mixture.mkdir(parents=True)
    (mixture / "manifest.json").write_bytes((world / "declared/mixture/manifest.json").read_bytes())
    score(tmp_path / "run/scores/step-1", world, said=mixture)
    (mark,) = marks_of(f"D={tmp_path / 'run'}", data=world)
    assert mark.short() == "contaminated: 20 items of the benchmark declared, doses 1/3"
    assert "is missing" in mark.caveat()
    assert mark.estimated() == "No clean score can be estimated: which questions it saw is not known"
    with pytest.raises(InputError, match="is missing"):
        marks_of(f"D={tmp_path / 'run'}", mixtures=[str(mixture)], data=world)


def test_lm_eval_questions_are_not_counted_by_our_names(world, tmp_path):
    place = score(tmp_path / "foreign", world, said=world / "declared/mixture")
    scores = json.loads((place / "scores.json").read_bytes())
    scores["tasks"]["cmmlu"]["by"] = "lm-eval"
    (place / "scores.json").write_text(json.dumps(scores))
    (mark,) = marks_of(f"F={place}", mixtures=[str(world / "declared/mixture")], data=world)
    assert mark.short() == "contaminated: 20 items of the benchmark declared, doses 1/3"


def test_a_leak_output_stands_for_the_search(world, tmp_path):
    names = [i.item for group in load_task("cmmlu", world).items.values() for i in group]
    rows = [2 if n in (names[0], names[5]) else 0 for n in names[:40]]
    (tmp_path / "leak/cmmlu").mkdir(parents=True)
    pl.DataFrame(
        {"item": names[:40], "rows_in_mixture": rows, "training_rows": [["web: a.jsonl:7"] * bool(r) for r in rows]}
    ).write_parquet(tmp_path / "leak/cmmlu/items.parquet")
    (mark,) = marks_of(f"C={world / 'clean'}", data=world, leaks=[str(tmp_path / "leak")])
    assert set(mark.held) == {names[0], names[5]}
    assert mark.held[names[0]].places == ["web: a.jsonl:7"]
    assert mark.looked == "looked for among 40 of 48 only"
    with pytest.raises(InputError, match=r"items\.parquet"):
        marks_of(f"C={world / 'clean'}", leaks=[str(world)])
    whole = pl.read_parquet(tmp_path / "leak/cmmlu/items.parquet")
    for column, values in (("item", 1.5), ("rows_in_mixture", "2"), ("training_rows", 7), ("item", None)):
        odd = pl.lit(values, pl.String if values is None else None).alias(column)
        whole.with_columns(odd).write_parquet(tmp_path / "leak/cmmlu/items.parquet")
        with pytest.raises(InputError, match=rf"items\.parquet: not what `leak` writes: column {column} holds"):
            marks_of(f"C={world / 'clean'}", data=world, leaks=[str(tmp_path / "leak")])


def test_another_benchmark_is_marked_by_what_is_found_only(world):
    marks = find_marks([load_arm(f"D={world / 'declared'}")], Sources(data=world))
    assert marks["ceval"][0][0].short() == "none declared, none found of 24 items"


def test_compare_says_that_the_difference_is_not_ability(world):
    test = next(t for t in compare_arms([f"C={world / 'clean'}", f"D={world / 'declared'}"]) if t.task == "cmmlu")
    assert (test.seen_a, test.seen_b) == ("", "contaminated: 20 items of the benchmark declared, doses 1/3")
    assert test.verdict.endswith("The difference is not one of ability.")
    ceval = next(t for t in compare_arms([f"C={world / 'clean'}", f"D={world / 'declared'}"]) if t.task == "ceval")
    assert "ability" not in ceval.verdict
    shown = CliRunner().invoke(app, ["compare", f"C={world / 'clean'}", f"D={world / 'declared'}"]).output
    assert shown.count("†") >= 2


def page_of(tmp_path, *places, **sources):
    page = write_report([str(p) for p in places], tmp_path / "r.html", sources=Sources(**sources)).read_text()
    return english(page), json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])


def test_the_page_marks_scores_and_gives_the_clean_ones(world, tmp_path):
    page, _ = page_of(tmp_path, f"C={world / 'clean'}", f"D={world / 'declared'}", data=world)
    assert '<small class="mark">contaminated: 20 of 48 items, doses 1/3</small>' in page
    assert '<small class="none">none declared, none found of 48 items</small>' in page
    assert "clean estimate" in page
    assert "score on questions that it never saw: " in page
    assert "with C (none declared, none found of 48 items) as reference" in page
    assert "D is contaminated: 20 of 48 items, doses 1/3 (C: none declared, none found of 48 items)" in page
    assert "The score is not one of ability." in page


def test_the_drill_down_lists_the_training_rows_as_data(world, tmp_path):
    page, data = page_of(tmp_path, f"H={world / 'hidden'}", data=world)
    (held,) = data["tasks"]["cmmlu"]["held"]
    assert held["models"] == [0]
    assert len(held["items"]) == HIDDEN
    dose, rows, places, texts = held["items"]["0"]
    assert (dose, rows, sorted(places)) == (0, 2, ["chat: web.jsonl:30", "chat: web.jsonl:31"])
    assert texts[0].startswith("<script>")  # the text itself is all there
    assert "alert('x')</script>" not in page
    assert "<img src=x" not in page
    assert "\u202e" not in page
    assert 'value="unseen"' in page


def test_the_page_says_what_was_not_looked_for(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page, data = page_of(tmp_path, f"N={score(tmp_path / 'loose', world)}")
    assert "Undeclared questions in the training data were not looked for" in page
    assert "N on cmmlu" in page
    assert data["tasks"]["cmmlu"]["held"][0]["items"] is None
    run = CliRunner().invoke(app, ["report", f"C={world / 'clean'}", "--data", "nowhere"])
    assert run.exit_code != 0


def test_scoring_counts_the_declared_questions_and_prints_the_mark(world, toy_checkpoint):
    target = world / "declared/checkpoints/step-000001"
    target.parent.mkdir()
    target.symlink_to(toy_checkpoint)
    out = world / "scored"
    how = ["--tasks", "cmmlu,ceval", "--data", str(world), "--shots", "0", "--out", str(out)]
    run = CliRunner().invoke(app, ["score", str(world / "declared"), *how])
    assert run.exit_code == 0, run.output
    scores = json.loads((out / "step-000001/scores.json").read_bytes())
    assert scores["contamination"] == {"cmmlu": {"1": 8, "3": 12}}
    assert scores["declared_items"] == {"cmmlu": {"1": 8, "3": 12}}
    assert "† cmmlu: contaminated: 20 of 48 items, doses 1/3. No score of ability alone" in run.output
    row = next(line for line in run.output.splitlines() if "ceval" in line and "lm-eval" in line)
    assert "†" not in row
