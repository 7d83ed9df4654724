"""The picture is a whole XML document, whatever a source is called."""

from xml.etree import ElementTree

from steel_train.loop.metrics import draw_losses


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


def test_too_few_lines_make_no_picture(tmp_path):
    draw_losses([line(1, 2.0)], "x", tmp_path / "loss.svg")
    assert not (tmp_path / "loss.svg").exists()
