"""Losses are means over what they are sums of; the log survives a kill; the picture is a whole XML document."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest
from tests.steel_train.toys import rows, tokenizer

from steel_train.examples.encode import Encoder
from steel_train.examples.folder import encode_batch
from steel_train.loop.metrics import Metrics, Window, draw_losses


def window_examples():
    return encode_batch(Encoder(tokenizer(), 256), rows(6), 0)


@pytest.fixture
def window():
    """A window over six examples of sources a, b, a, b, a, b, that weigh 1 to 6."""
    return Window(window_examples(), np.arange(1, 7))


def test_a_mean_is_over_weights_and_a_group_that_did_not_occur_is_left_out(window):
    seen, losses = np.array([0, 2]), np.array([3.0, 5.0])  # source a only, weights 1 and 3
    window.add(window.sums(seen, losses[None]), seen, tokens=10)
    assert window.means() == {"loss": 2.0, "loss_by_source": {"a": 2.0}, "loss_by_kind": {"chat": 2.0}}
    more, losses = np.array([1]), np.array([8.0])
    window.add(window.sums(more, losses[None]), more, tokens=5)
    assert window.means()["loss_by_source"] == {"a": 2.0, "b": 4.0} and window.means()["loss"] == 16 / 6
    assert (window.tokens, window.steps) == (15, 2)


def test_a_window_survives_json_exactly(window):
    seen = np.array([0, 1, 2])
    window.add(window.sums(seen, np.array([[0.1, 0.2, 1 / 3]])), seen, tokens=7)
    state, means = json.loads(json.dumps(window.state())), window.means()
    window.reset()
    assert window.means()["loss"] == 0
    window.restore(state)
    assert window.means() == means and window.tokens == 7


def test_a_measure_is_a_mean_like_the_loss_and_a_window_of_before_has_none(window):
    seen, measured = np.array([0, 2]), Window(window_examples(), np.array([1, 0] * 3), measures=("margin",))
    before = Window(window_examples(), np.array([1, 0] * 3))
    for made, losses in ((measured, [[3.0, 5.0], [1.0, 0.0]]), (before, [[3.0, 5.0]])):
        made.add(made.sums(seen, np.array(losses)), seen, tokens=1)
    assert measured.means()["margin"] == 0.5 and measured.means()["loss"] == before.means()["loss"] == 4.0
    measured.restore(before.state() | {"losses": before.state()["losses"][0]})
    assert measured.means() == before.means() | {"margin": 0.0}


def test_the_log_is_wound_back_to_a_step_and_a_cut_line_is_forgotten(tmp_path):
    metrics = Metrics(tmp_path)
    assert metrics.read() == []
    for step in (2, 4, 6):
        metrics.append({"step": step, "loss_by_source": {"题": 1.0}})
    with metrics.path.open("a") as file:
        file.write('{"step": 8, "lo')
    assert [line["step"] for line in metrics.read()] == [2, 4, 6]
    metrics.rewind(4)
    assert [json.loads(line)["step"] for line in metrics.path.read_text(encoding="utf-8").splitlines()] == [2, 4]
    whole = metrics.path.read_bytes()
    for damage in (b"5\n", b'{"stop": 6}\n', b'{"step": "\xff"}\n', b"[" * 9999 + b"\n"):
        metrics.path.write_bytes(whole + damage)
        assert [line["step"] for line in metrics.read()] == [2, 4]


def test_a_line_ends_where_lines_end_and_not_at_other_signs_of_unicode(tmp_path):
    metrics = Metrics(tmp_path)
    metrics.append({"step": 2, "loss_by_source": {"a\u2028b": 1.0}})
    assert [line["step"] for line in metrics.read()] == [2]


def line(step, loss, **sources):
    return {"step": step, "epoch": step / 4, "loss": loss, "loss_by_source": sources}


def test_a_curve_has_one_line_a_source_and_an_epoch_mark(tmp_path):
    nasty = '<script>"&\u202e'
    lines = [line(i, 5 - i / 4, a=5 - i / 4, **({nasty: 4.0} if i > 2 else {})) for i in range(1, 9)]
    draw_losses(lines, "a & b", tmp_path / "loss.svg")
    root = ElementTree.parse(tmp_path / "loss.svg").getroot()
    found = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert found.count("polyline") == 3 and "script" not in found
    assert any(element.get("stroke-dasharray") for element in root.iter())


def test_held_out_rows_have_a_curve_of_their_own(tmp_path):
    looks = [{"step": i, "epoch": i / 4, "eval_loss": 6 - i / 8} for i in (4, 8)]
    lines = sorted([*(line(i, 5 - i / 4, a=4.0) for i in range(1, 9)), *looks], key=lambda found: found["step"])
    draw_losses(lines, "x", tmp_path / "loss.svg")
    assert "5.000 held out" in (tmp_path / "loss.svg").read_text(encoding="utf-8")


def test_too_few_lines_make_no_picture(tmp_path):
    draw_losses([line(1, 2.0)], "x", tmp_path / "loss.svg")
    assert not (tmp_path / "loss.svg").exists()
