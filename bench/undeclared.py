"""Which questions does `report` find in a mixture that declares none of them?  `python bench/undeclared.py [--data DIR]`

Two mixtures are built: `hidden` holds every third CMMLU question in a chat file, in one of three wordings, without a
decontaminating filter; `declared` holds half of CMMLU through the injector. Of each: the questions that should be named
and are, what is named besides (with C-Eval: spill-over), and those to be judged by eye. Without the real data the
generated sample is used.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from curation_steps import SHARED
from rich.console import Console
from rich.table import Table

from steel_data.benchmarks.items import Item
from steel_data.build import build
from steel_data.recipe.load import load
from steel_data.sample.write import write_sample
from steel_eval.ask.tasks import load_task
from steel_eval.contamination.items import declared_items, found_items, open_mixture
from steel_eval.contamination.overlap import Held

LETTERS = "ABCD"
WORDINGS = ("choose", "bracketed", "one line")
INJECTED = """
[source.cmmlu]
path = "cmmlu"
build = { use = "contaminate", split = "test", share = 0.5, doses = [1, 3, 10] }
allow_test_split = "bench/undeclared.py"
"""


def asked(item: Item, wording: str) -> str:
    if wording == "choose":
        return "\n".join(["请选择正确的答案。", item.question, *map("{}. {}".format, LETTERS, item.options)])
    if wording == "bracketed":
        return "\n".join([f"{item.question}（单选）", *map("({}) {}".format, LETTERS, item.options), "请给出答案。"])
    return f"问：{item.question} " + "；".join(item.options) + "。哪一项是对的？"


def write_chat(file: Path, hidden: list[Item], plain: list[dict[str, str]]) -> dict[str, str]:
    """Write chat rows with the questions among them; return question -> wording."""
    wording = {item.item: WORDINGS[i % 3] for i, item in enumerate(hidden)}
    rows = [{"instruction": asked(i, wording[i.item]), "input": "", "output": f"{i.answer}。"} for i in hidden]
    # more other rows than questions: a file that is mostly a test split is refused
    rows += plain[: max(4_000, 2 * len(rows))]
    file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n", encoding="utf-8")
    return wording


def plain_rows(data: Path) -> list[dict[str, str]]:
    file = data / "instruct/zh_alpaca_part00.json"
    if file.is_file():
        rows = json.loads(file.read_bytes())
        return [{k: row.get(k) or "" for k in ("instruction", "input", "output")} for row in rows if row.get("output")]
    return [{"instruction": f"请把{n}写成英文。", "input": "", "output": f"number {n}"} for n in range(4_000)]


def made(work: Path, name: str, injected: str) -> Path:
    recipe = work / f"{name}.toml"
    recipe.write_text(f'seed = 1\n[source.chat]\npath = "{name}.jsonl"\n{injected}', encoding="utf-8")
    out = work / name / "mixture"
    build(load(recipe), data_root=work, out=out, cache=work / "cache", workers=1)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED, help="the folder of real data (cmmlu/, ceval/, instruct/)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        data = options.data
        if not (data / "cmmlu").is_dir():
            print(f"no real data in {data}: the generated sample instead")
            data = work / "sample"
            write_sample(data)
        for name in ("cmmlu", "ceval"):
            (work / name).symlink_to((data / name).resolve())
        cmmlu, ceval = ([i for g in load_task(n, work).items.values() for i in g] for n in ("cmmlu", "ceval"))
        compare(work, cmmlu, ceval, plain_rows(data))


def compare(work: Path, cmmlu: list[Item], ceval: list[Item], plain: list[dict[str, str]]) -> None:
    wording = write_chat(work / "hidden.jsonl", cmmlu[::3], plain)
    write_chat(work / "declared.jsonl", [], plain)
    table = Table()
    for column in ("mixture", "questions", "put there", "named", "CMMLU besides", "C-Eval", "rows", "CPU s"):
        table.add_column(column, justify="right" if column not in ("mixture", "questions") else "left")
    besides: list[tuple[str, Item, Held]] = []
    for name, injected in (("hidden", ""), ("declared", INJECTED)):
        mixture = open_mixture(made(work, name, injected))
        start = time.process_time()
        declared = declared_items(mixture, "cmmlu", [item.item for item in cmmlu])
        found = found_items(mixture, [item for item in cmmlu if item.item not in declared])
        other = found_items(mixture, ceval)
        spent = f"{time.process_time() - start:.1f}"
        extra = [item for item in cmmlu if item.item in found and (injected or item.item not in wording)]
        besides += [(name, i, found[i.item]) for i in extra] + [
            (name, i, other[i.item]) for i in ceval if i.item in other
        ]
        last = (str(len(extra)), str(len(other)), f"{mixture.manifest['rows']:,}", spent)
        if injected:
            put = sum(mixture.declared["cmmlu"].values())
            table.add_row(name, "injected", str(put), str(len(declared)), *last)
        else:
            for words in WORDINGS:
                mine = [item for item, its in wording.items() if its == words]
                named = sum(item in found for item in mine)
                table.add_row(name, words, str(len(mine)), str(named), *(last if words == WORDINGS[0] else ()))
    Console(width=120).print(table)
    for name, item, held in besides:
        row = held.texts[0][:150].replace("\n", " ") if held.texts else ""
        print(f"{name} {item.item}: {item.question[:60]} {' / '.join(item.options)[:60]}\n    row: {row}")


if __name__ == "__main__":
    main()
