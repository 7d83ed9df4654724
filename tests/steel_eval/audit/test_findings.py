"""What a question's text shows: each kind on a question of our own, and its innocent neighbour."""

from pathlib import Path

import pytest

from steel_data.benchmarks.items import Item
from steel_eval.audit.findings import KINDS, Asked, text_findings


def asked(question: str, options: str = "铁|铜|金|银", answer: str = "A", row: int = 0, task: str = "t") -> Asked:
    parts = tuple(options.split("|"))
    return Asked(task, Item(f"test/s/{row:05d}", "s", "test", row, question, parts, answer, "", Path("s.csv")))


def kinds(*questions: Asked) -> list[str]:
    return [f.kind for f in text_findings(questions)]


def test_the_same_question_with_another_key_is_found_across_tasks_whatever_the_order_of_the_options() -> None:
    one, other = asked("下列金属中最硬的是哪一种"), asked("下列金属中，最硬的是哪一种？", "铜|铁|金|银", "A", 1, "u")
    (found,) = text_findings([one, other])
    assert found.kind == "twins" and found.question == one and found.others == (other,)
    assert "t:test/s/00000: A. 铁" in found.why and "u:test/s/00001: A. 铜" in found.why


def test_twins_that_agree_or_share_no_option_are_no_finding() -> None:
    assert kinds(asked("下列金属中最硬的是哪一种"), asked("下列金属中最硬的是哪一种", "铜|铁|金|银", "B", 1)) == []
    brackets = (
        asked("括号里的词古今同义的是", "无（常）师|（学者）|金|银"),
        asked("括号里的词古今同义的是", "（无常）师|水|火|土", "B", 1),
    )
    assert kinds(*brackets) == []
    assert kinds(asked("下列各项中说法正确的是"), asked("下列各项中说法正确的是", "水|火|土|木", "A", 1)) == []


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        (asked("哪个最硬", "铁|铁|金|银"), "equal-options"),
        (asked("哪个最硬", "铁|铜|银|银"), "equal-wrong-options"),
        (asked("哪个最硬", "铁|铜 C. 金|银"), "merged-options"),
        (asked("最硬的金属是（ A ）"), "answer-inside"),
        (asked("如图所示，哪个最硬"), "no-picture"),
        (asked("根据上述材料，哪个最硬"), "no-passage"),
        (asked("哪个&nbsp;最硬"), "residue"),
        (asked("最硬的金属，"), "cut"),
    ],
)
def test_each_kind_is_found(question: Asked, kind: str) -> None:
    assert kinds(question) == [kind]


@pytest.mark.parametrize(
    "question",
    [
        asked("基因型是", "AA|Aa|aA|aa"),  # letters that differ in case alone say other things
        asked("已知基因(A)位于常染色体上，正确的是"),  # a letter in brackets that names a thing
        asked("古人说：“水是生命之源。”上述材料说的是"),  # the quotation is the passage
        asked("图中央的恒星是什么"),
        asked("阅读材料，" + "水是生命之源。" * 30 + "根据材料，哪个最硬"),
        asked("哪些分类属于 A. 一类", "A. 甲 B. 乙|铜|金|银"),  # four options are there: nothing was merged
    ],
)
def test_innocent_neighbours_are_left_alone(question: Asked) -> None:
    assert kinds(question) == []


def test_findings_come_by_kind_in_the_stated_order() -> None:
    found = text_findings([asked("最硬的金属，"), asked("哪个最硬", "铁|铁|金|银", row=1)])
    rank = [list(KINDS).index(f.kind) for f in found]
    assert rank == sorted(rank) and len(rank) == 2
