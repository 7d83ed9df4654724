"""Toy data and small readers that many tests of steel_data share."""

import json
import pickle
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

Task = TypeVar("Task")
Result = TypeVar("Result")


class Elsewhere:
    """An executor whose tasks might run on another machine: all that goes there and back is pickled."""

    workers = 2

    def map(
        self,
        function: Callable[[Task], Result],
        tasks: Iterable[Task],
        on_done: Callable[[Result], None] = lambda _: None,
    ) -> list[Result]:
        """Return the results in the order of the tasks, which run in another one."""
        there = [pickle.loads(pickle.dumps((function, task))) for task in tasks]
        made = {i: pickle.dumps(call(task)) for i, (call, task) in reversed(list(enumerate(there)))}
        results = [pickle.loads(made[i]) for i in range(len(there))]
        for result in results:
            on_done(result)
        return results


Rows = list[dict[str, Any]]
_SENTENCES = (
    "请用一句话说明{}的用途。", "为什么{}在冬天更容易坏？", "把“{}”翻译成英文并造句。", "给{}写一段三十字的广告。",
    "{}和石头哪个更重？", "列出与{}有关的三种职业。", "如果没有{}，城市会怎样？", "讲一个关于{}的短故事。",
)  # fmt: skip
_THINGS = [
    "灯笼",
    "水壶",
    "铁轨",
    "风筝",
    "棉被",
    "算盘",
    "罗盘",
    "竹筏",
    "瓦片",
    "石磨",
    "砚台",
    "油纸伞",
    "皮影",
    "陀螺",
    "簸箕",
    "马灯",
    "独轮车",
    "鱼篓",
    "蓑衣",
    "纺车",
]


def chat_rows(count: int) -> Rows:
    """Return distinct alpaca rows of natural length; up to 160 are unlike each other."""
    rows = []
    for i in range(count):
        thing, form = _THINGS[i % len(_THINGS)], _SENTENCES[i // len(_THINGS) % len(_SENTENCES)]
        rows.append(
            {
                "instruction": form.format(thing),
                "input": "",
                "output": f"第{i}号回答：{thing}{'甲乙丙丁'[i % 4] * (i % 7)}。",
            }
        )
    return rows


def write_jsonl(path: Path, rows: Rows) -> Path:
    """Write rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def write_cmmlu(root: Path, subjects: int = 3, items: int = 20, split: str = "test") -> Path:
    """Write a benchmark `bench/<split>/subject_N.csv` in CMMLU's layout, every question distinct."""
    for s in range(subjects):
        lines = [",Question,A,B,C,D,Answer"]
        for i in range(items):
            thing = _THINGS[(s * 7 + i) % len(_THINGS)]
            question = f"第{s}科第{i}题：关于{thing}{i}号样品的产地，下列说法正确的是"
            lines.append(f"{i},{question},东山{i}村,西河{s}镇,南湖{i + s}岛,北岭{i * 3}寨,{'ABCD'[i % 4]}")
        file = root / "bench" / split / f"subject_{s}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / "bench"


def read_train(folder: Path) -> pl.DataFrame:
    """Return a mixture's rows in order."""
    return pl.concat([pl.read_parquet(f) for f in sorted(folder.glob("train-*.parquet"))])


def read_dropped(folder: Path) -> pl.DataFrame:
    """Return the dropped rows."""
    return pl.concat([pl.read_parquet(f) for f in sorted((folder / "dropped").glob("part-*.parquet"))])
