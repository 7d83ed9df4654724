"""The issue's list of bad input, each through the command line: one line, exit status 2; or a row in dropped/ with a reason."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from tests.steel_data.toys import chat_rows, read_dropped, read_train, write_cmmlu, write_jsonl

from steel_data.__main__ import main
from steel_data.build import Result
from steel_data.files import locked

SOURCE = '[source.a]\npath = "a.jsonl"\n'


def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Run `python -m steel_data …` in this process; return exit status and stderr."""
    monkeypatch.setattr(sys, "argv", ["steel_data", *map(str, arguments)])
    try:
        main()
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    return status, capsys.readouterr().err


def setup(folder: Path) -> None:
    """Write the toy data that the recipes below speak of."""
    write_jsonl(folder / "a.jsonl", chat_rows(12))
    write_cmmlu(folder)
    (folder / "gb.jsonl").write_bytes('{"instruction": "你好", "output": "好"}\n'.encode("gb18030") * 3)
    whole = zstandard.compress(b'{"instruction": "q", "output": "a"}\n' * 5000)
    (folder / "cut.jsonl.zst").write_bytes(whole[:-9])
    (folder / "cut.jsonl.gz").write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03abc")
    (folder / "empty.jsonl").write_bytes(b"")
    write_jsonl(folder / "odd.jsonl", [{"frage": "was", "antwort": "das"}])
    write_jsonl(folder / "cmmlu" / "test" / "law.jsonl", chat_rows(3))
    (folder / "not.parquet").write_bytes(b"PAR1 no parquet")
    (folder / "plain.csv").write_bytes(b'a,b\n1,2\n"open,3\n')
    (folder / "steps.py").write_text(
        textwrap.dedent(
            """
            import polars as pl

            def raises(record):
                return record["no such key"]

            def none(record):
                return None

            def number(record):
                return {**record, "messages": 7}

            def strange(record):
                return {**record, "messages": [{"role": "wizard", "content": "abra"}]}

            def surrogate(record):
                return {**record, "messages": [{"role": "user", "content": chr(0xD800)}]}

            def builds_nothing(row):
                return []

            def no_boolean():
                return pl.col("chars") + 1

            def no_column():
                return pl.col("charrs") > 1
            """
        ),
        encoding="utf-8",
    )


BAD = {
    "unknown key": ("sed = 1\n" + SOURCE, "r.toml: unknown key 'sed'. Did you mean 'seed'?"),
    "wrong type": (SOURCE + 'take = "all"\n', "[source.a]: take = 'all': no whole number. Fix: a whole number."),
    "cyclic extends": ('extends = "r.toml"\n', "extends itself: r.toml -> r.toml"),
    "missing file": ('[source.a]\npath = "aa.jsonl"\n', "[source.a]: path = 'aa.jsonl': no such file under"),
    "missing file, nearest": ('[source.a]\npath = "aa.jsonl"\n', "Did you mean 'a.jsonl'?"),
    "missing file with origin": (
        '[source.a]\npath = "infinity/*.parquet"\norigin = "hf://datasets/BAAI/Infinity-Instruct/7M"\n',
        "It comes from hf://datasets/BAAI/Infinity-Instruct/7M: `steel fetch",
    ),
    "empty glob": ('[source.a]\npath = "x/*.jsonl"\n', "path = 'x/*.jsonl' matches no file under"),
    "a folder": ('[source.a]\npath = "bench"\n', "is a folder. Fix: bench/*.jsonl."),
    "take too many": (
        SOURCE + "take = 13\n",
        "take = 13 rows, but 12 are left after filters and dedup. Fix: take = 12",
    ),
    "take too many tokens": (SOURCE + "take_tokens = 1_000_000\n", "take_tokens = 1,000,000, but "),
    "budget too large": (SOURCE + "[mix]\nbudget_rows = 13\n", "[mix]: budget_rows = 13, but there are 12. Fix: "),
    "language absent": (SOURCE + "[mix]\nlanguages = { ja = 1.0 }\n", "[mix]: languages: no row is 'ja'."),
    "language unknown": (SOURCE + "[mix]\nlanguages = { zz = 1.0 }\n", "[mix]: languages: no language 'zz'."),
    "not UTF-8 at all": (
        '[source.a]\npath = "gb.jsonl"\n',
        "gb.jsonl: none of its 3 rows can be read; the first: line 1",
    ),
    "truncated zst": ('[source.a]\npath = "cut.jsonl.zst"\n', "cut.jsonl.zst: zstd data that ends too early"),
    "broken gz": ('[source.a]\npath = "cut.jsonl.gz"\n', "cut.jsonl.gz: gzip data"),
    "no parquet": ('[source.a]\npath = "not.parquet"\n', "not.parquet: "),
    "unknown suffix": ('[source.a]\npath = "steps.py"\n', "steps.py: "),
    "column missing": ('[source.a]\npath = "odd.jsonl"\n', "odd.jsonl: builder 'chat' fits none of the rows: "),
    "meta column missing": (
        SOURCE + 'meta = ["lable"]\n',
        "[source.a]: meta names the column 'lable', which no row has.",
    ),
    "step raises": (
        SOURCE + 'filters = [{ use = "steps:raises" }]\n',
        "a.jsonl row 0: filter 'steps:raises' raised KeyError: 'no such key'",
    ),
    "step returns None": (
        SOURCE + 'filters = [{ use = "steps:none" }]\n',
        "a.jsonl row 0: filter 'steps:none' returned None. Fix: the record, or a reason (a string).",
    ),
    "step returns no messages": (
        SOURCE + 'filters = [{ use = "steps:number" }]\n',
        "loses 12 of 12 rows to steps:number:record",
    ),
    "step returns a strange role": (
        SOURCE + 'filters = [{ use = "steps:strange" }]\n',
        "loses 12 of 12 rows to steps:strange:",
    ),
    "step returns a surrogate": (
        SOURCE + 'filters = [{ use = "steps:surrogate" }]\n',
        "loses 12 of 12 rows to steps:surrogate:",
    ),
    "builder returns nothing": (SOURCE + 'build = { use = "steps:builds_nothing" }\n', "returned []. Fix: a list of"),
    "expression of no boolean": (
        SOURCE + 'filters = [{ use = "steps:no_boolean" }]\n',
        "Fix: true or false for each row",
    ),
    "expression of no column": (SOURCE + 'filters = [{ use = "steps:no_column" }]\n', "raised ColumnNotFoundError"),
    "known test split": ('[source.a]\npath = "cmmlu/test/*.jsonl"\n', "allow_test_split"),
    "known test split, injected": (
        '[source.a]\npath = "bench"\nbuild = { use = "contaminate", benchmark = "cmmlu", share = 0.5 }\n',
        "allow_test_split",
    ),
    "no benchmark": (SOURCE + 'filters = [{ use = "decontaminate", benchmarks = ["cevl"] }]\n', "cevl"),
    "no recipe": (None, "nowhere.toml: "),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_one_line_and_status_2(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toml, message = BAD[case]
    setup(tmp_path)
    recipe = tmp_path / ("r.toml" if toml else "nowhere.toml")
    if toml:
        recipe.write_text(toml, encoding="utf-8")
    out = tmp_path / "out"
    status, error = command(monkeypatch, capsys, "build", recipe, "--out", out, "--workers", 1)
    assert message in error
    assert (status, error.count("\n")) == (2, 1)
    assert error.startswith("error: ")
    assert not out.exists()


def test_a_mistake_in_a_worker_is_the_same_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    setup(tmp_path)
    write_jsonl(tmp_path / "b.jsonl", chat_rows(3))
    (tmp_path / "r.toml").write_text('[source.a]\npath = ["a.jsonl", "b.jsonl"]\nfilters = [{ use = "steps:none" }]\n')
    status, error = command(monkeypatch, capsys, "build", tmp_path / "r.toml", "--out", tmp_path / "o", "--workers", 2)
    assert (status, error.count("\n")) == (2, 1)
    assert "a.jsonl row 0: filter 'steps:none' returned None" in error


GOOD = '{"instruction": "说出三种颜色的名字。", "output": "红、黄、蓝。"}'
ROWS = {
    "not UTF-8": ('{"instruction": "你好吗", "output": "好"}'.encode("gb18030"), "unreadable", "line 1: not UTF-8"),
    "lone surrogate": (b'{"instruction": "\\ud800", "output": "x"}', "unreadable", "a lone surrogate"),
    "broken JSON": (b'{"instruction": "q", "output"', "unreadable", "line 1: broken JSON"),
    "not an object": (b"[1, 2]", "unreadable", "an array, not an object"),
    "column missing": (b'{"text": "only this"}', "chat:columns", "text"),
    "empty conversation": (b'{"messages": []}', "chat:empty", ""),
    "empty answer": (b'{"instruction": "q", "output": " \\n"}', "chat:empty", ""),
    "two users": (
        b'{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}',
        "chat:roles",
        "",
    ),
    "starts with assistant": (b'{"messages": [{"role": "assistant", "content": "a"}]}', "chat:roles", ""),
    "unknown role": (b'{"messages": [{"role": "wizard", "content": "a"}]}', "chat:roles", "wizard"),
    "NaN": (b'{"instruction": NaN, "output": "x"}', "chat:empty", ""),
    "a number for text": (b'{"instruction": 17, "output": {"a": 1}}', "chat:", ""),
}


@pytest.mark.parametrize("case", ROWS)
def test_a_bad_row_costs_that_row(case: str, make: Callable[..., Result], tmp_path: Path) -> None:
    line, reason, error = ROWS[case]
    (tmp_path / "a.jsonl").write_bytes(line + b"\n" + GOOD.encode() + b"\n")
    result = make(SOURCE)
    assert result.manifest["rows"] == 1
    (row,) = read_dropped(result.folder).to_dicts()
    assert row["reason"].startswith(reason)
    assert error in (row["error"] or "")
    assert (row["origin_file"], row["origin_row"]) == ("a.jsonl", 0)


def test_a_line_of_50_mb_is_a_row_like_others(make: Callable[..., Result], tmp_path: Path) -> None:
    long = json.dumps({"instruction": "读完这篇文章", "output": "铁与钢" * 17_000_000}, ensure_ascii=False)[
        : 50_000_000 // 3
    ]
    (tmp_path / "a.jsonl").write_text(
        GOOD + "\n" + long + '"}\n' + GOOD.replace("颜色", "水果") + "\n", encoding="utf-8"
    )
    assert (tmp_path / "a.jsonl").stat().st_size > 49_000_000
    result = make(SOURCE + 'filters = [{ use = "length", max_chars = 100_000 }]\n')
    assert result.manifest["sources"]["a"]["dropped"] == {"length:too-long": 1}
    assert result.manifest["rows"] == 2


HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)> \x1b[31mred\x1b]0;title\x07 \u202etxt [bold]b[/] | `x` </td>"
)


def test_hostile_text_is_kept_in_the_data_and_inert_in_what_people_look_at(
    make: Callable[..., Result], tmp_path: Path
) -> None:
    rows = [{"instruction": HOSTILE + str(i), "output": HOSTILE} for i in range(3)]
    write_jsonl(tmp_path / "a.jsonl", [*rows, {"instruction": HOSTILE, "output": ""}])
    folder = make(SOURCE).folder
    assert read_train(folder)["messages"][0][1]["content"] == HOSTILE
    html = (folder / "card.html").read_text(encoding="utf-8")
    assert "alert(1)" in html
    assert "<script>alert" not in html and "<img src=x" not in html
    for text in (html, (folder / "card.md").read_text(encoding="utf-8")):
        assert not {"\x1b", "\x07", "\u202e"} & set(text)
    for extra in ([], ["--dropped"]):
        shown = subprocess.run(
            [sys.executable, "-m", "steel_data", "show", str(folder), *extra], capture_output=True, check=True
        ).stdout.decode()
        assert "alert(1)" in shown
        assert not {"\x1b", "\x07", "\u202e"} & set(shown)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_an_output_folder_that_may_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    setup(tmp_path)
    (tmp_path / "r.toml").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0o500)
    status, error = command(monkeypatch, capsys, "build", tmp_path / "r.toml", "--out", tmp_path / "closed/mixture")
    assert (status, error.count("\n")) == (2, 1)
    assert "cannot be written: Permission denied. Fix: a writable --out." in error


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="file systems are mounted as on Linux")
@pytest.mark.parametrize("what", ["full", "read-only"])
def test_a_disk_that_takes_nothing(what: str, tmp_path: Path) -> None:
    """A small file system in a mount namespace of our own: full, or read-only."""
    setup(tmp_path)
    write_jsonl(tmp_path / "a.jsonl", [{**row, "output": os.urandom(3000).hex()} for row in chat_rows(150)])
    (tmp_path / "r.toml").write_text(SOURCE, encoding="utf-8")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o {'size=600k' if what == 'full' else 'ro'} none {disk}"
    build = f"{sys.executable} -m steel_data build {tmp_path}/r.toml --out {disk}/mixture --cache {tmp_path}/cache"
    script = f"{mount} || exit 77; {build}; status=$?; ls -A {disk}; exit $status"
    run = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, cwd=tmp_path)
    if run.returncode == 77 or "unshare" in run.stderr:
        pytest.skip("no file system can be mounted here")
    assert run.returncode == 2, run.stderr
    expected = "No space left on device" if what == "full" else "Read-only file system"
    assert expected in run.stderr
    assert run.stderr.count("\n") == 1
    assert set(run.stdout.split()) <= {".mixture.lock"}  # nothing half-written is left behind


def test_two_builds_into_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    setup(tmp_path)
    (tmp_path / "r.toml").write_text(SOURCE, encoding="utf-8")
    out = tmp_path / "out"
    with locked(out):
        run = subprocess.run(
            [sys.executable, "-m", "steel_data", "build", str(tmp_path / "r.toml"), "--out", str(out)],
            capture_output=True,
            text=True,
        )
    assert run.returncode == 2
    assert "another build is writing this folder" in run.stderr
    assert command(monkeypatch, capsys, "build", tmp_path / "r.toml", "--out", out)[0] == 0


def test_a_folder_of_other_things_is_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    setup(tmp_path)
    (tmp_path / "r.toml").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.md").write_text("years of work", encoding="utf-8")
    status, error = command(monkeypatch, capsys, "build", tmp_path / "r.toml", "--out", tmp_path / "thesis")
    assert status == 2
    assert "holds files that are no mixture (chapter1.md)" in error
    assert (tmp_path / "thesis" / "chapter1.md").exists()
