"""Pattern: what is found drops, what is missing drops, and no pattern hangs a build."""

import time

import polars as pl
import pytest

from steel_data.errors import InputError
from steel_data.filters import pattern
from steel_data.filters.pattern import Pattern


def reasons(settings: Pattern, texts: list[str]) -> list[str | None]:
    frame = pl.DataFrame(settings.compute(texts))
    return frame.select(settings.verdict().alias("why"))["why"].to_list()


def test_the_first_rule_that_drops_is_the_reason() -> None:
    settings = Pattern(drop=["作为(一个)?AI", r"https?://"], require=[r"\p{Han}"])
    texts = ["作为AI，我不能", "见 http://x 作为一个AI", "见 https://x", "no Chinese", "中文", ""]
    assert reasons(settings, texts) == [
        "pattern:drop[0]", "pattern:drop[0]", "pattern:drop[1]", "pattern:require[0]", None, "pattern:require[0]",
    ]  # fmt: skip


def test_patterns_are_those_of_the_regex_library() -> None:
    settings = Pattern(drop=[r"(?i)\bopenai\b", r"^[\p{P}\s]+$", r"(?<=答案：)\s*$"])
    assert reasons(settings, ["OpenAI 公司", "，。\n！", "答案：", "答案：A"]) == [
        "pattern:drop[0]", "pattern:drop[1]", "pattern:drop[2]", None,
    ]  # fmt: skip


def test_a_pattern_looks_at_the_whole_text_with_its_line_breaks() -> None:
    assert reasons(Pattern(drop=["a.b", "(?s)c.d", "(?m)^e$"]), ["a\nb", "c\nd", "x\ne\ny"]) == [
        None, "pattern:drop[1]", "pattern:drop[2]",
    ]  # fmt: skip


def test_a_catastrophic_pattern_ends_in_an_error_that_names_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pattern, "SECONDS", 0.2)
    began = time.process_time()  # as it counts its seconds
    with pytest.raises(InputError, match=r"no answer in 0\.2 s on the text 'aaaa.*simpler"):
        Pattern(drop=[r"(a|aa|b?a)+$"]).compute(["kurz", "a" * 5000 + "!"])
    assert time.process_time() - began < 5


@pytest.mark.parametrize("drop", [["("], ["[a"], ["ok", "*"]])
def test_no_regular_expression_is_refused(drop: list[str]) -> None:
    with pytest.raises(InputError, match="is no regular expression"):
        Pattern(drop=drop)


def test_a_filter_without_patterns_is_refused() -> None:
    with pytest.raises(InputError, match="neither drop nor require"):
        Pattern()
