"""The picture is a whole XML document whatever things are called, and its points stand where their numbers say."""

from xml.etree import ElementTree

import pytest

from steel_data.page.chart import COLOURS, Axis, Line, Point, line_chart, round_ticks

EVIL = '<script>"&\u202e'


def drawn(lines, x=None, y=None, **more):
    """The elements of a chart by tag, as a parser of XML sees them."""
    svg = line_chart(lines, x or Axis(label="step"), y or Axis(label="loss"), **more)
    assert "\u202e" not in svg
    found: dict[str, list[ElementTree.Element]] = {}
    for element in ElementTree.fromstring(svg).iter():
        found.setdefault(element.tag.rpartition("}")[2], []).append(element)
    return found


def words(found):
    return [element.text for element in found["text"]]


def places(element):
    return [tuple(map(float, pair.split(","))) for pair in element.get("points").split()]


def test_names_are_text_and_never_markup():
    found = drawn([Line(EVIL, [Point(0, 1, words=EVIL), Point(1, 2)])], Axis(label=EVIL), Axis(label="y"), title=EVIL)
    assert "script" not in found
    assert words(found).count('<script>"&\\u202e') == 3  # title, axis, legend


def test_higher_numbers_stand_higher_and_later_ones_to_the_right():
    (line,) = drawn([Line("a", [Point(0, 1), Point(5, 3), Point(10, 2)])])["polyline"]
    (x0, y0), (x1, y1), (x2, y2) = places(line)
    assert x0 < x1 < x2 and x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y1 < y2 < y0 and y0 - y2 == pytest.approx(y2 - y1, abs=0.2)  # SVG counts downwards


def test_a_point_with_words_is_a_dot_that_says_them():
    found = drawn([Line("a", [Point(0, 1), Point(1, 2, words="two")])])
    (dot,) = found["circle"]
    assert (float(dot.get("cx")), float(dot.get("cy"))) == places(found["polyline"][0])[1]
    assert dot[0].text == "two"


def test_intervals_are_bands_or_whiskers_and_have_room():
    line = Line("a", [Point(0, 1, 0, 9), Point(1, 2, 1, 3)])
    (band,) = drawn([line])["polygon"]
    assert len(places(band)) == 4 and min(y for _, y in places(band)) > 20
    found = drawn([line], whiskers=True)
    assert "polygon" not in found and sum("V" in path.get("d") for path in found["path"]) == 2


def test_what_lies_outside_the_axis_is_drawn_on_its_edge():
    found = drawn(
        [Line("a", [Point(0, 0.5, -9, 9, words="wide")])], y=Axis(label="gain", low=-1, high=1), whiskers=True
    )
    (whisker,) = (path.get("d") for path in found["path"] if "V" in path.get("d"))
    ends = [float(part) for part in whisker.split(" ")[1].split("V")]
    assert all(20 <= end <= 340 for end in ends)
    assert max(float(w) for w in words(found)[1:-3] if w.lstrip("-").replace(".", "").isdigit()) <= 1


def test_a_logarithmic_axis_has_a_place_for_zero():
    (line,) = drawn([Line("a", [Point(0, 0), Point(9, 0), Point(99, 0)])], Axis(label="x", ticks=[0, 9, 99], log=True))[
        "polyline"
    ]
    (x0, _), (x1, _), (x2, _) = places(line)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)  # 1, 10, 100


def test_ticks_that_would_run_into_each_other_are_left_out():
    ticks = [0, 1, 2, 1000, 2000]
    shown = words(
        drawn([Line("a", [Point(v, 70) for v in ticks])], Axis(label="x", ticks=ticks, words="{:,.0f}".format))
    )
    assert "0" in shown and "1,000" in shown and "1" not in shown and "2" not in shown


def test_rules_are_dashed_named_and_on_the_axis():
    found = drawn([Line("a", [Point(0, 5), Point(1, 6)])], y=Axis(label="y", rules={1: "chance"}))
    (rule,) = (path for path in found["path"] if path.get("class") == "rule")
    assert rule.get("stroke-dasharray") and "chance" in words(found) and "1" in words(found)


def test_every_line_is_told_apart_and_none_is_left_out():
    lines = [Line(f"line {n}", [Point(0, n), Point(1, n)], total=n == 0) for n in range(3 * len(COLOURS))]
    found = drawn(lines)
    looks = {(p.get("stroke"), p.get("stroke-dasharray")) for p in found["polyline"]}
    assert len(looks) == len(lines) and found["polyline"][0].get("stroke") == "currentColor"
    height = float(found["svg"][0].get("viewBox").split()[-1])
    assert all(float(text.get("y")) < height for text in found["text"])


def test_a_long_name_is_cut_to_its_room_and_whole_under_the_mouse():
    found = drawn([Line("很长的名字" * 20, [Point(0, 1)])])
    (shown,) = (w for w in words(found) if w.startswith("很"))
    assert shown.endswith("…") and len(shown) <= 15
    assert "很长的名字" * 20 in [title.text for title in found["title"]]


@pytest.mark.parametrize(
    ("low", "high", "least", "ticks"),
    [
        (0.21, 0.77, 0, [0.3, 0.4, 0.5, 0.6, 0.7]),
        (-0.1, 0.3, 0, [-0.1, -0.05, 0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3][::2]),
        (1, 3, 1, [1, 2, 3]),
        (0, 1e6, 0, [0, 2e5, 4e5, 6e5, 8e5, 1e6]),
        (3.02, 3.03, 0.01, [3.02, 3.03]),
    ],
)  # fmt: skip
def test_ticks_are_round(low, high, least, ticks):
    assert round_ticks(low, high, least) == pytest.approx(ticks)


def test_one_point_makes_a_picture_too():
    assert len(drawn([Line("a", [Point(3, 0.5, words="only")])])["circle"]) == 1
