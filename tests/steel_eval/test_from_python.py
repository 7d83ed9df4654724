"""`score` and `compare` from Python give what the commands print, as rows."""

import json

import pytest
from tests.steel_eval.report.test_page import folder

from steel_data.errors import InputError
from steel_eval import compare, score


def test_a_checkpoint_is_scored_and_read_again(toy_checkpoint, toy_data, tmp_path):
    found = score(toy_checkpoint, ["cmmlu"], data=toy_data, shots=1, out=tmp_path)
    (row,) = found.rows
    assert row["task"] == "cmmlu" and row["said"].startswith("cmmlu: ") and (found.folder / "scores.json").is_file()
    written = json.loads((tmp_path / "scores.json").read_text())["tasks"]["cmmlu"]["accuracy"]
    assert row["accuracy"] == written and f"{100 * written:.1f}" in found._repr_html_()


def test_what_does_not_lie_there_is_named(toy_checkpoint, toy_data, tmp_path):
    with pytest.raises(InputError, match="no benchmark 'arc_easy' there"):
        score(toy_checkpoint, ["arc_easy"], data=toy_data, out=tmp_path)


def test_arms_are_compared_and_shown_as_a_table(tmp_path):
    places = [f"{name}={folder(tmp_path / name, accuracy=share)}" for name, share in (("a", 0.2), ("<b>", 0.7))]
    found = compare(*places)
    test = next(t for t in found.tests if not t.group)
    assert found.rows[0]["a"] == "a" and test.difference > 0
    assert "&lt;b&gt; - a" in found._repr_html_() and test.verdict.split(":")[0] in found._repr_html_()


def test_the_face_keeps_the_functions_whatever_is_imported():
    import steel_eval.compare.pair
    import steel_eval.score.sweep

    assert steel_eval.score is score and steel_eval.compare is compare and callable(score)
