"""Decontamination: what holds an item is found whatever its dress; what only looks like one is not flagged."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from steel_data.benchmarks.index import PASSAGE, TURN, Index, index_of, passages
from steel_data.benchmarks.items import Item
from steel_data.errors import InputError
from steel_data.filters.overlap import Decontaminate, _candidates, overlap
from steel_data.row.text import TextBatch

CRAB = (
    "下列关于河蟹蜕壳与水温关系的说法，错误的是",
    ("水温过低时蜕壳停止", "蜕壳后体重明显增加", "蜕壳次数与年龄无关", "幼蟹蜕壳间隔较短"),
)
KILN = ("宋代汝窑瓷器的天青釉色主要来自哪种元素", ("铁", "铜", "钴", "锰"))
SHORT = ("光的三原色是", ("红绿蓝", "红黄蓝", "青品黄", "黑白灰"))
NUMBERS = ("2，8，6，-2，-8，-6，____", ("-4", "-2", "2", "4"))
STEM = ("下列说法正确的是", ("沙漏匀速流尽需九分钟", "日晷在阴天仍能计时", "水钟受气温影响不大", "更香燃烧与风无关"))
FREE = ("小明有3个苹果，又买来5个装在篮子里，吃掉2个以后还剩几个？", ())
ENGLISH = (
    "Which of these birds lays its eggs in the nests of other species?",
    ("The common cuckoo", "The barn owl", "The house sparrow", "The mute swan"),
)
SIGNS = ("一句话中停顿由短到长的标点顺序正确的一项是哪项", ("、，；。", "，、。；", "；。、，", "。；，、"))
NAMED = (
    "在向阳甲村、背阴乙村、临河丙村、靠山丁村之中，海拔最高而且冬季降雪最多的村子是哪一个",
    ("向阳甲村", "背阴乙村", "临河丙村", "靠山丁村"),
)
LETTERS = ("图中四条曲线哪一条表示河蟹在低温下的蜕壳次数", ("A", "B", "C", "D"))
ITEMS = [CRAB, KILN, SHORT, NUMBERS, STEM, FREE, ENGLISH, SIGNS, NAMED, LETTERS]
# Other items, so that rarity means something; 60 of them share the stem of STEM, which makes it common.
OTHERS = [(f"关于第{i}号竹简上所记{a}事件的年代，学者一般认为是", (f"{b}年", f"{b}月", f"{a}朝", "不详"))
          for i, (a, b) in enumerate([(x, y) for x in "春夏秋冬东西南北" for y in "金木水火土日"])]  # fmt: skip
OTHERS += [
    ("下列说法正确的是", (f"{x}号机床不能停转", f"{x}号炉温偏低", f"阀门{x}漏气", f"{x}号泵应检修")) for x in range(60)
]

Question = tuple[str, Sequence[str]]


def item(question: str, options: Sequence[str], row: int = 0) -> Item:
    return Item(f"test/s/{row:05d}", "s", "test", row, question, tuple(options), "A", "", Path("x.csv"))


@pytest.fixture(scope="module")
def index() -> Index:
    everything = [*ITEMS, *OTHERS]
    return index_of([f"b/test/s/{i:05d}" for i in range(len(everything))], [item(q, o) for q, o in everything])


def asked(question: str, options: Sequence[str], labels: str = "ABCD", mark: str = ". ") -> str:
    return "\n".join([question, *(f"{a}{mark}{o}" for a, o in zip(labels, options, strict=False))])


def found(index: Index, *rows: str, threshold: float = 0.7) -> list[int | None]:
    """Return the number of the item that each row is dropped for, or None."""
    result = overlap(list(rows), index)
    names = zip(result["overlap_score"].tolist(), result["overlap_item"].to_list(), strict=True)
    return [int(name.rpartition("/")[2]) if name and score >= threshold else None for score, name in names]


def fullwidth(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


FORMS: dict[str, Callable[[Question], str]] = {
    "verbatim": lambda x: asked(*x),
    "answered": lambda x: f"{asked(*x)}{TURN}A",
    "in a conversation": lambda x: f"你好{TURN}你好！{TURN}请看：{asked(*x)}\n怎么做？{TURN}选A。",
    "in the answer": lambda x: f"出一道题{TURN}好的。{asked(*x)}\n答案：A",
    "one line": lambda x: asked(*x).replace("\n", " "),
    "another order": lambda x: asked(x[0], [*x[1]][::-1]),
    "small letters in brackets": lambda x: asked(*x, labels="abcd", mark=")").replace("\na", "\n(a"),
    "numbers for labels": lambda x: asked(*x, labels="1234", mark="、"),
    "no labels": lambda x: asked(*x, mark="").translate({ord(c): "" for c in "ABCD"}) if x is not ENGLISH else asked(*x),
    "full width": lambda x: fullwidth(asked(*x)),
    "the post's format": lambda x: f"以下是一道单选题:\n{asked(*x)}\n请给出答案。\n{TURN}A。因为如此。",
    "blanks around every Han character": lambda x: "".join(f" {c} " if c > "\u3400" else c for c in asked(*x)),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_item_is_found_in_every_dress(index: Index, form: str) -> None:
    rows = [FORMS[form](x) for x in ITEMS]
    assert found(index, *rows) == list(range(len(ITEMS)))


def test_a_long_question_is_found_without_its_options(index: Index) -> None:
    assert found(index, f"请回答：{CRAB[0]}？", f"{KILN[0]}？", ENGLISH[0], FREE[0]) == [0, 1, 6, 5]


def test_a_long_question_alone_must_be_there_to_its_end_where_it_asks(index: Index) -> None:
    source = "据记载，河边的老人在雨季之前把渔网挂在第三棵柳树上，等到水位退去再一一收回"
    index = index_of(
        ["b/test/s/0"], [item(f"{source}。这段材料说明", ("水位可测", "柳树耐涝", "渔网贵重", "老人谨慎"))]
    )
    assert found(index, f"{source}。这段材料说明什么", f"{source}。据此写一篇作文。", asked("下列记载可信的是", [source, "乙"])) == [
        0, None, None,
    ]  # fmt: skip


@pytest.mark.parametrize("number", [0, 1, 6])
def test_an_edited_item_is_found(index: Index, number: int) -> None:
    question, options = ITEMS[number]
    middle = len(question) // 2
    edited = question[:middle] + question[middle + 1 :]
    assert found(index, asked(edited, options), asked(question, [options[0] + "了", *options[1:]])) == [number] * 2


def test_a_short_question_counts_as_a_whole_turn_or_with_its_options(index: Index) -> None:
    talk = "色彩是光的性质。" * 8
    inside = [
        f"{SHORT[0]}什么？",
        f"{talk}{SHORT[0]}什么，书上都有。{talk}",
        f"{talk}宋代汝窑瓷器的天青釉色主要来自哪种元素，尚无定论",
    ]
    assert found(index, *inside) == [None] * 3
    assert (
        found(index, f"{SHORT[0]}：", f"{talk}{TURN}{SHORT[0]}", asked(*SHORT), f"{talk}\n{asked(*SHORT)}\n{talk}")
        == [2] * 4
    )


def test_text_on_the_topic_is_no_item() -> None:
    # public bug report: instruct rows dropped since their answers begin as a stem does
    items = [
        item("贝多芬的第九交响曲是", ("《田园》", "《合唱》", "《英雄》", "《命运》")),
        item("第一次世界大战开始的时间是", ("1940", "1939", "1910", "1914")),
        item("淋巴结肿大的原因有", ("感染", "结核", "外伤", "肿瘤")),
    ]
    index = index_of([f"b/test/s/{i}" for i in range(3)], items)
    rows = [
        f"描述贝多芬的第九交响曲。{TURN}贝多芬的第九交响曲是一部不朽的作品，完成于 1824 年，末乐章是《欢乐颂》。",
        f"一战是哪一年开始的？{TURN}第一次世界大战开始的时间是 1914 年。",
        f"淋巴结肿大有哪些原因{TURN}淋巴结肿大的原因有很多：感染、结核、传染性单核细胞增多症等都可能。",
    ]
    assert found(index, *rows) == [None] * 3
    assert found(index, *(asked(x.question, x.options) for x in items)) == [0, 1, 2]


def test_a_term_is_no_question() -> None:
    index = index_of(
        ["b/test/s/0"], [item("鼓室", ("下壁为乳突壁", "内侧壁为迷路壁", "前壁为鼓膜", "外侧壁为颈静脉壁"))]
    )
    assert found(index, f"中耳由什么组成{TURN}鼓室", asked("鼓室", index.options[0])) == [None, 0]


def test_a_common_question_needs_its_options_even_as_a_whole_turn(index: Index) -> None:
    assert found(index, STEM[0], f"{STEM[0]}{TURN}请补充选项。", asked(*STEM)) == [None, None, 4]


def test_a_question_without_options_that_is_a_whole_turn_counts_however_short() -> None:
    index = index_of(["b/test/s/0", "b/test/s/1"], [item("几点了？", ()), item("地球绕太阳一周的时间叫做什么？", ())])
    assert found(index, f"几点了？{TURN}三点。", "请问现在几点了？先告诉我。") == [0, None]


WORDY = (
    "Which layer of the old harbour wall was laid before the great flood of the northern valley?",
    ("The granite blocks below the customs house", "The brick arches facing the western pier",
     "The timber piles under the fish market", "The clay bank behind the lighthouse"),
)  # fmt: skip


@pytest.mark.parametrize(("rate", "least"), [(0.02, 97), (0.05, 92)])
@pytest.mark.parametrize("number", [0, len(ITEMS)])
def test_edited_copies_are_found_in_both_languages(number: int, rate: float, least: int) -> None:
    everything = [*ITEMS, WORDY, *OTHERS]
    index = index_of([f"b/test/s/{i:05d}" for i in range(len(everything))], [item(q, o) for q, o in everything])
    draw = random.Random(14)

    def edited(text: str) -> str:
        letter = "aeinorst" if number else "的一是在不了"
        return "".join(
            draw.choice([draw.choice(letter), "", c + draw.choice(letter)]) if draw.random() < rate else c for c in text
        )

    question, options = everything[number]
    rows = [asked(edited(question), [edited(option) for option in options]) for _ in range(100)]
    assert found(index, *rows).count(number) >= least


def passage(number: int) -> str:
    draw = random.Random(number)
    words = ["".join(draw.choices(("ka", "lo", "mi", "ten", "sur", "vel"), k=4)) for _ in range(40)]
    return ". ".join(" ".join(draw.choices(words, k=6)) for _ in range(20))


def asked_of(number: int) -> tuple[str, ...]:
    one, two, three, *_ = passage(number).split()
    return (
        f"Why did the ferrymen of {one} and the millers of {two} refuse to carry lime to {three}?",
        f"Which craft was taught at {three} behind the chapel of {one} when {two} burnt down?",
        "What is the main idea of the passage?",
    )


OFFERED = (
    ("Their boats leaked", "The toll was doubled", "Rain spoilt the load", "A storm was forecast"),
    ("Weaving of nets", "Casting of bells", "Binding of books", "Turning of bowls"),
    ("Trade shapes towns", "Rivers divide people", "Crafts are forgotten", "Winters were harder"),
)
EXAM = [(f"{passage(n)}\n{ask}", offer) for n in range(60) for ask, offer in zip(asked_of(n), OFFERED, strict=True)]


@pytest.fixture(scope="module")
def exam() -> Index:
    return index_of([f"b/test/s/{i:05d}" for i in range(len(EXAM))], [item(q, o) for q, o in EXAM])


def test_a_passage_is_what_several_questions_begin_with_or_all_lines_but_the_last() -> None:
    text = "河" * PASSAGE
    asked = [
        f"{text}甲乙丙",
        f"{text}甲丁",
        f"{text}甲丁",
        "短文\n甲",
        f"{'湖' * PASSAGE}\n它说明什么",
        f"{'海' * PASSAGE}甲",
    ]
    at_I, family_I = passages(asked)
    assert at_I.tolist() == [PASSAGE + 1] * 3 + [0, PASSAGE + 1, 0]
    assert family_I.tolist() == [0, 0, 0, -1, -1, -1]
    assert [x.tolist() for x in passages([])] == [[], []]


@pytest.mark.parametrize("form", ["with options", "question only", "with a greeting", "edited"])
def test_of_the_items_on_a_passage_the_one_that_is_asked_is_found(exam: Index, form: str) -> None:
    draw = random.Random(5)
    numbers = [3 * n + k for n in (0, 7) for k in range(3)]
    rows = []
    for question, options in (EXAM[i] for i in numbers):
        row = question if form == "question only" else asked(question, options)
        row = f"Hello!{TURN}Read this: {row}\nPlease explain." if form == "with a greeting" else row
        rows.append("".join("" if form == "edited" and draw.random() < 0.02 else c for c in row))
    assert found(exam, *rows) == numbers


def test_a_passage_without_what_is_asked_is_no_item(exam: Index) -> None:
    others = ["", "Summarise this for a child.", asked("Who wrote it?", ["A miller", "A priest", "A widow", "A clerk"])]
    lone = index_of(["b/test/s/0"], [item(*EXAM[0])])
    rows = [f"{passage(0)}\n{other}{TURN}People trade and quarrel." for other in others]
    assert found(exam, *rows) == found(lone, *rows) == [None] * 3


@pytest.mark.parametrize("many", [120, 180])
def test_rows_with_a_passage_are_compared_with_few_items(many: int) -> None:
    # 40 items that ask for the main idea are led to by that, 60 are not
    index = index_of([f"b/test/s/{i:05d}" for i in range(many)], [item(q, o) for q, o in EXAM[:many]])
    rows = [f"{passage(n)}\n{other}" for n in range(20) for other in ("", "Tell it as a story.", *asked_of(n))]
    unit_U, _, _ = _candidates(TextBatch(rows), index)
    assert len(unit_U) <= 2 * len(rows)


def test_a_changed_number_makes_another_option() -> None:
    question = "某厂购入一台设备，增值税税额为多少万元才符合规定"
    index = index_of(["b/test/s/0"], [item(question, ("100万元", "200万元", "300万元", "400万元"))])
    rows = [["150万元", "250万元", "350万元", "450万元"], ["400万元", "300万元", "200万元", "100万元"]]
    assert found(index, *(asked(question, options) for options in rows)) == [None, 0]


def test_same_stem_with_other_options_is_another_item(index: Index) -> None:
    other = ["蟹的种类", "气压高低", "光照时间", "盐度变化"]
    rows = [asked(CRAB[0], other), asked(CRAB[0], other, mark="、"), asked(CRAB[0], other, labels="甲乙丙丁")]
    rows += ["\n".join([CRAB[0], *other]), f"{asked(STEM[0], other)}"]
    assert found(index, *rows) == [None] * 5


def test_an_option_stands_inside_one_option_of_the_row() -> None:
    # Each option of the item is two options of the row, one after the other: another question.
    pairs = ("赤门会、白石会", "青铜会、黄沙会", "赤门会、黄沙会", "白石会、青铜会")
    index = index_of(["b/test/s/0"], [item("在河边竖起竹旗、结成船队的是哪一个会社", pairs)])
    single = ["赤门会", "白石会", "青铜会", "黄沙会"]
    rows = [asked("在河边竖起竹旗、结成船队的是哪一个会社", options) for options in (single, single[::-1], pairs)]
    assert found(index, *rows) == [None, None, 0]


def test_labels_inside_an_item_do_not_hide_it() -> None:
    question = "把句子 A. 他来 B. 我去 C. 你留 合成一句"
    index = index_of(["b/test/s/0"], [item(question, ("A. B. C.", "先 C. 后 A.", "B. 在前", "都不对"))])
    row = asked(question, ("A. B. C.", "先 C. 后 A.", "B. 在前", "都不对"))
    assert found(index, row, asked(question, ["一二三", "四五六", "七八九", "十百千"])) == [0, None]


def test_options_count_only_in_the_turn_that_holds_the_question(index: Index) -> None:
    row = f"{asked(KILN[0], ['灰', '白', '黑', '红'])}{TURN}既不是铁、铜，也不是钴、锰。"
    assert found(index, row, asked(*KILN)) == [None, 1]


def test_a_run_of_numbers_must_stand_there_as_a_run(index: Index) -> None:
    sums = "She has 2 children and 8 cakes. 2*8=16, 8-6=2, 6-2=4, 2+8=10, 8+6=14, 6+2=8. So 2 and 4 and 8."
    assert found(index, sums, "数字 8，6，2，4，2 之和是多少", asked("找规律：2, 8, 6, -2, -8, -6, ( )", NUMBERS[1])) == [
        None, None, 3,
    ]  # fmt: skip


def test_numbers_scattered_over_a_row_are_not_the_run() -> None:
    index = index_of(["b/test/s/0"], [item("1，4，9，16，25，36，49，64，____", ())])
    scattered = "1 4 9 乙 4 9 16 丙 9 16 25 丁 16 25 36 戊 25 36 49 己 36 49 64"
    assert found(index, scattered, f"1, 4, 9, 16, 25, 36, 49, 64, ？{TURN}81") == [None, 0]
    assert found(index, "1, 4, 9, 16, 25, 36, 49, 65") == [None]  # another digit, another question


def test_options_that_were_all_edited_a_little_are_still_the_options() -> None:
    options = ("水温过低之时蜕壳停止", "蜕壳以后体重明显增加", "蜕壳次数与其年龄无关", "幼蟹每次蜕壳间隔较短")
    index = index_of(["b/test/s/0"], [item(CRAB[0], options)])
    edited = [option[:5] + "不" + option[6:] for option in options]
    assert found(index, asked(CRAB[0], edited), asked(CRAB[0], [o[:3] + "甲乙丙丁" for o in options])) == [0, None]


def test_few_words_of_options_must_follow_the_question_closely() -> None:
    index = index_of(["b/test/s/0"], [item("水的沸点是", ("90度", "95度", "100度", "105度"))])
    talk = "气压与海拔对此都有影响。" * 30
    options = "可以是90度、95度、100度，也可以是105度。"
    assert found(index, f"水的沸点是多少？{options}{talk}", f"水的沸点是多少？{talk}{options}") == [0, None]


def test_options_that_the_question_names_prove_nothing(index: Index) -> None:
    assert found(index, asked(NAMED[0], ["北坡", "南坡", "西坡", "东坡"]), asked(*NAMED)) == [None, 8]


def test_a_label_is_no_option_of_one_letter(index: Index) -> None:
    number = ITEMS.index(LETTERS)
    rows = [asked(LETTERS[0], ["最高的一条", "最低的一条", "先升后降", "不变"]), asked(*LETTERS)]
    assert found(index, *rows) == [None, number]


def test_options_spelt_with_other_blanks_are_the_same_options() -> None:
    index = index_of(["b/test/s/0"], [item("下列大小写形式互换完全正确的一组是", ("Gg LI", "Tt Wu", "Yy Nn", "Qp Rr"))])
    row = asked("下列大小写形式互换完全正确的一组是", ["T t Wu", "Y y N n", "G g L I", "Q p R r"])
    assert found(index, row, asked("下列大小写形式互换完全正确的一组是", ["Aa Bb", "Cc Dd", "Ee Ff", "Hh Ii"])) == [
        0,
        None,
    ]


def test_mark_up_of_formulas_does_not_hide_an_item() -> None:
    index = index_of(
        ["b/test/s/0"], [item("计算 $x^{2}+3x_{1}$ 在 $x=2$ 处的取值结果", ("$10$", "$11$", "$12$", "$13$"))]
    )
    assert found(index, asked("计算 x2+3x1 在 x=2 处的取值结果", ["10", "11", "12", "13"])) == [0]


def test_other_rows_are_not_flagged(index: Index) -> None:
    rows = [
        "请介绍一下河蟹的养殖方法。" + TURN + "河蟹养殖要注意水温。水温过低时生长停止。",
        "汝窑的天青釉为什么珍贵？" + TURN + "它的釉色来自铁，烧成温度要求高。",
        "小明有几个苹果？", "Which birds lay eggs?", "", "\n", TURN, "。。。", "下列说法正确的是哪一种？A. 对 B. 错",
    ]  # fmt: skip
    assert found(index, *rows) == [None] * len(rows)


def test_the_best_item_wins_and_ties_go_to_the_first() -> None:
    near = ("甲乙两地相距三百里，骑马需要几个时辰", ("二", "三", "四", "五"))
    far = ("甲乙两地相距三百里，乘船需要几个时辰", ("二", "三", "四", "五"))
    index = index_of(["b/x/0", "b/x/1", "b/x/2"], [item(*far), item(*near), item(*near)])
    result = overlap([asked(*near)], index)
    assert result["overlap_item"].to_list() == ["b/x/1"]
    assert result["overlap_score"].tolist() == [1.0]


def test_a_row_scores_alike_in_any_company(index: Index) -> None:
    rows = [FORMS["another order"](x) for x in ITEMS] + ["无关的一行", ""] + [CRAB[0][:12], KILN[0][3:]]
    whole = overlap(rows, index)
    alone = [overlap([row], index) for row in rows]
    assert whole["overlap_score"].tolist() == [a["overlap_score"][0] for a in alone]
    assert whole["overlap_item"].to_list() == [a["overlap_item"][0] for a in alone]
    assert overlap(rows, index, TextBatch(rows))["overlap_score"].tolist() == whole["overlap_score"].tolist()


def test_no_rows_and_no_items() -> None:
    assert overlap([], index_of([], []))["overlap_score"].tolist() == []
    assert overlap(["一行"], index_of([], []))["overlap_item"].to_list() == [None]
    signs = index_of(["b/x/0"], [item("→∅→", ("∅", "→"))])
    assert signs.unmatchable == 1
    assert overlap(["→∅→"], signs)["overlap_item"].to_list() == [None]


@pytest.mark.parametrize(
    "wrong", [{"benchmarks": []}, {"benchmarks": ["a"], "threshold": 0.4}, {"benchmarks": ["a"], "threshold": 1.1}]
)
def test_settings_that_cannot_be_served_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match="decontaminate"):
        Decontaminate(**wrong)  # type: ignore[arg-type]


def test_the_verdict_names_the_benchmark() -> None:
    import polars as pl

    frame = pl.DataFrame(
        {"overlap_score": [0.9, 0.69, 0.0], "overlap_item": ["cmmlu/test/law/00001", "ceval/val/law/00001", None]}
    )
    verdict = Decontaminate(benchmarks=["x"]).verdict()
    assert frame.select(verdict.alias("v"))["v"].to_list() == ["decontaminate:cmmlu", None, None]
