"""A source that keeps nothing, a mixture without a row, a language that is none: said, never passed over."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.steel_data.toys import chat_rows, read_train, write_jsonl

from steel_data.build import Result
from steel_data.errors import InputError
from steel_data.recipe import load

Make = Callable[..., Result]
SOURCE = '[source.{name}]\npath = "{name}.jsonl"\nbuild = {{ use = "chat" }}\n{more}\n'


def source(name: str, more: str = "") -> str:
    return SOURCE.format(name=name, more=more)


def test_rows_that_the_builder_does_not_understand_are_an_error_with_an_example(tmp_path: Path, make: Make) -> None:
    write_jsonl(tmp_path / "good.jsonl", chat_rows(3))
    odd = [{"messages": [{"role": "narrator", "content": "x"}, {"role": "assistant", "content": "y"}]}] * 2
    write_jsonl(tmp_path / "odd.jsonl", odd)
    with pytest.raises(
        InputError, match=r"\[source.odd\]: the builder 'chat' can use none of its 2 rows; .*'narrator'"
    ):
        make(source("good") + source("odd"))
    result = make("allow_empty = true\n" + source("good") + source("odd"))
    assert result.warnings == ("source 'odd' loses 2 of 2 rows to chat:roles, and keeps none",)
    assert (
        make("allow_empty = true\n" + source("good") + source("odd")).warnings == result.warnings
    )  # verified, not built
    assert "keeps none" in (result.folder / "card.md").read_text(encoding="utf-8")


def test_what_the_recipe_asks_for_is_a_warning(tmp_path: Path, make: Make) -> None:
    write_jsonl(tmp_path / "a.jsonl", chat_rows(30))
    write_jsonl(tmp_path / "b.jsonl", chat_rows(60)[30:])
    keep_ja = 'filters = [{ use = "language", keep = ["ja"] }]'
    assert make(source("a") + source("b", keep_ja)).warnings == (
        "source 'b' loses 30 of 30 rows to language:zh, and keeps none",
    )
    long = 'filters = [{ use = "length", min_chars = 100000 }]'
    with pytest.raises(InputError, match=r"the mixture is empty: source 'a' loses 30 of 30 rows to length:too-short"):
        make(source("a", long))
    assert make("allow_empty = true\n" + source("a", long)).manifest["rows"] == 0


def test_files_without_rows_are_one_line(tmp_path: Path, make: Make) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"")
    with pytest.raises(InputError, match=r"its inputs hold no rows: a\.jsonl"):
        make(source("a"))


@pytest.mark.parametrize(
    ("code", "hint"), [("cn", "'zh'"), ("zh-CN", "'zh'"), ("jp", "'ja'"), ("englsh", "zh, en, ja"), ("ZH", "'zh'")]
)
def test_a_language_that_is_none_is_refused(tmp_path: Path, code: str, hint: str) -> None:
    for text in (
        source("a", f'filters = [{{ use = "language", keep = ["{code}"] }}]'),
        source("a") + f"[mix]\nlanguages = {{ {code} = 1.0 }}\n",
    ):
        (tmp_path / "r.toml").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=f"no language '{code}'.*{hint}"):
            load(tmp_path / "r.toml")


def test_nulls_that_parquet_pads_with_are_no_arguments(tmp_path: Path, make: Make) -> None:
    def row(**arguments: str) -> list[dict]:
        call = {"function": {"name": "f", "arguments": {"city": None, "stock": None, **arguments}}}
        return [
            {"role": "user", "content": "问"}, {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "1"}, {"role": "assistant", "content": "答"},
        ]  # fmt: skip

    pq.write_table(pa.table({"messages": [row(city="南京"), row(stock="600001")]}), tmp_path / "a.parquet")
    result = make(source("a").replace("jsonl", "parquet"))
    calls = sorted(r[1]["tool_calls"][0]["function"]["arguments"] for r in read_train(result.folder)["messages"])
    assert calls == ['{"city":"南京"}', '{"stock":"600001"}']
