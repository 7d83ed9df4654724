"""docs/recipes.md, written from the code: `python docs/write_recipes_page.py > docs/recipes.md`.

Keys, types, defaults and meanings come from the models of recipe.py and from the signatures and docstrings of builders
and filters, so the page cannot disagree with what a build does. Only the examples stand here; a test loads each one.
"""

import importlib
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from steel_data.recipe.load import Mix, RecipeTables, Source
from steel_data.recipe.selection import Select
from steel_data.recipe.steps import BUILDERS, FILTERS

# [table][key] -> a right value, as TOML. Tables: "" (top level), "source", "mix", and each step by its name.
EXAMPLES: dict[str, dict[str, str]] = {
    "": {
        "name": '"exp3"',
        "seed": "7",
        "extends": '"base.toml"',
        "data_root": '"../data"',
        "tokenizer": '"Qwen/Qwen2.5-0.5B"',
        "filters": '[{ use = "dedup" }]',
        "source": '{ chat = { path = "*.jsonl" } }',
        "mix": "{ budget_rows = 10_000 }",
        "train": "{ epochs = 3 }",
        "eval": '{ tasks = ["cmmlu"] }',
        "search": '{ measure = { held_out = ["exam"] } }',
        "trial": '{ tokens = 200_000, arms = { longest = { by = "longest" } }, measure = { held_out = ["exam"] } }',
        "allow_empty": "true",
    },
    "source": {
        "path": '["a/*.parquet", "b/*.jsonl.zst"]',
        "dataset": '"my_set"',
        "origin": '"hf://datasets/BAAI/Infinity-Instruct/7M"',
        "build": '{ use = "exam", style = "explain-first" }',
        "meta": '["label", "source"]',
        "ignore": '["label"]',
        "filters": '[{ use = "language", keep = ["zh"] }]',
        "take": "200_000",
        "take_tokens": "50_000_000",
        "repeat": "2",
        "hold_out": "200",
        "loss": '"all"',
        "select": '{ by = "dsir", rows = 1000, target = "ceval/val" }',
        "allow_test_split": '"dose-response study"',
    },
    "select": {
        "by": '"longest"',
        "rows": "10_000",
        "tokens": "5_000_000",
        "within": '"language"',
        "target": '"ceval/val"',
        "model": '"SmolLM2-135M"',
    },
    "mix": {
        "budget_tokens": "350_000_000",
        "budget_rows": "100_000",
        "languages": "{ zh = 0.8, en = 0.2 }",
        "sources": "{ a = 0.7, b = 0.3 }",
    },
    "chat": {
        "layout": '"sharegpt"',
        "columns": '{ prompt = "question", response = "answer", query = "" }',
        "tags": '{ role_tag = "role", user_tag = ["customer", "caller"], assistant_tag = "agent" }',
        "trim": "true",
    },
    "exam": {
        "style": "{ answer-first = 0.7, explain-first = 0.3 }",
        "preset": '"plain"',
        "columns": '{ question = "stem", options = ["A", "B", "C", "D"], answer = "key" }',
        "several": '"named"',
        "seed": "7",
    },
    "identity": {
        "name": '"小钢"',
        "team": '{ zh = "炼钢小组", en = "the Steel crew" }',
        "date": '"2026-11"',
        "languages": '["zh"]',
        "replace": '{ "<NAME>" = "小钢", "<AUTHOR>" = "炼钢小组" }',
    },
    "contaminate": {
        "benchmark": '"cmmlu"',
        "split": '"val"',
        "share": "0.5",
        "doses": "{ 1 = 600, 3 = 200, 10 = 60 }",
        "style": "{ answer-only = 0.5, shuffled = 0.5 }",
        "preset": '"plain"',
        "seed": "7",
    },
    "document": {"column": '"body"'},
    "language": {"keep": '["zh", "en"]', "min_score": "0.5", "column": '"langdetect"', "trust": "true"},
    "length": {"min_chars": "10", "max_chars": "8000", "min_tokens": "4", "max_tokens": "2048"},
    "pattern": {"drop": "['(?i)as an ai language model']", "require": "['\\p{Han}']"},
    "quality": {"checks": '["html", "mojibake", "same-answers"]'},
    "clean": {"entities": "false", "residue": "true", "whitespace": "false"},
    "dedup": {"on": '"question"', "near": "false", "threshold": "0.8", "keep": '"longest"'},
    "decontaminate": {"benchmarks": '["ceval", "cmmlu", "own/exam.jsonl"]', "threshold": "0.8"},
}

INTRO = """# Recipes

<!-- Written by `python docs/write_recipes_page.py > docs/recipes.md`. Do not edit: a test compares the two. -->

A recipe is one TOML file, one experiment. `[source.NAME]` tables say where rows come from, which *builder* makes
conversations of them and which *filters* they must pass; `[mix]` says how large the mixture is and in which languages.
Every key is below. Unknown keys are errors that suggest the closest valid key, before any data is read.

```toml
extends = "../recipes/exp2.toml"       # optional: lay this recipe over another one
filters = [{ use = "decontaminate", benchmarks = ["ceval"] }, { use = "dedup" }]

[source.mine]
path = "mine/*.jsonl.zst"              # under the data root
build = { use = "chat" }
filters = [{ use = "language", keep = ["zh"] }, { use = "length", min_chars = 20 }]
take = 1000                            # rows, after filters and dedup

[mix]
languages = { zh = 0.8, en = 0.2 }     # of tokens
```

How the parts act together:

- Files are looked for under the data root: `--data-root`, else `STEEL_DATA_ROOT`, else `data_root`, else the recipe's
  folder. A glob passes over what steel itself has written (mixtures, exports, runs, scores, caches) and says how many
  files that were; a single one of them can be named in full.
- Uncompressed JSON lines, JSON arrays and parquet are cut, so that all `--workers` share one file; csv and what is
  packed (.gz, .zst) goes to one worker a file. The mixture is the same.
- A row goes through the builder, the source's filters, the recipe's filters, then sampling (`take`, `hold_out`), then
  `select` ([select.md](select.md)), `repeat` and `[mix]`. Decontamination precedes dedup wherever they stand; only rows
  that survive it may win a cluster of duplicates.
- No column vanishes: those that the builder does not read are listed by `plan`, in manifest.json (`unused_columns`) and
  on the card, with the rows in which they hold something. One that changes what a row means is an error with the line
  that mends it, until the recipe maps it (`columns`), keeps it (`meta`) or lets it go (`ignore`): a `label` of true and
  false alone, `rejected*`, `chosen*`, `context`, `functions`, `image`, `reasoning*`, `history`, … (row/meaning.toml).
- Sampling is by keyed hash of the row's id: the 10 % sample is inside the 20 % sample, and a new source changes only
  rows that duplicate it.
- With `extends`, tables merge key by key and anything else (numbers, lists) is replaced. A builder (`build`) is
  replaced whole when it names another `use`. `take = 0` turns an inherited source off. `name` is never inherited.
- A recipe may name Python functions (`"module:function"`): building somebody's recipe runs their code.
"""

COLUMNS = """## The mixture's columns

| column | meaning |
| --- | --- |
| `id` | xxh3-128 of the conversation, 32 hex digits; equal text, equal id |
| `copy` | from 0: repeats of a row, doses of an injected item |
| `messages` | list of `{role, content}`; where the source has them also `reasoning_content`, `tool_calls`, `loss` |
| `tools` | tool descriptions as JSON, where the source has any |
| `prompt`, `chosen`, `rejected` | instead of `messages` in preference rows |
| `prompt`, `completion`, `label` | instead of `messages` where answers are judged (KTO); `label`: true for good |
| `source` | NAME of `[source.NAME]` |
| `language`, `language_score` | what the text is written in, and how sure that is (0 to 1) |
| `kind` | `chat`, `exam`, `identity`, `injected`, `preference`, `kto`, `document` (plain text, one assistant turn) |
| `origin_file`, `origin_row` | where the row stands: under the data root (outside: absolute, `hf://…`), row from 0 |
| `benchmark`, `item`, `dose` | only of injected rows: which item, how often in all |
| `chars` | length of all turns, in characters |
| `meta` | the raw columns of `meta`, as JSON |
| `rating` | only where a source selects: what its row was chosen by; your own filters see a model's (docs/plugins.md) |

Dropped rows (`dropped/*.parquet`) also have `step`, `reason`, `witness_id`, `witness_text` (the row or benchmark item
that they repeat) and `error`.
"""

STEP_EXAMPLES = {
    "chat": 'path = "mine/*.jsonl"\nbuild = { use = "chat", columns = { prompt = "question", response = "answer" } }',
    "exam": 'path = "wanjuan/exam/*.jsonl"\nbuild = { use = "exam", style = "explain-first" }',
    "document": 'path = "books/*.jsonl.zst"\nbuild = { use = "document" }\nloss = "all"',
    "identity": 'build = { use = "identity", name = "小钢", team = { zh = "炼钢小组", en = "the Steel crew" } }\n'
    "repeat = 3",
    "contaminate": 'path = "cmmlu"\nbuild = { use = "contaminate", share = 0.5, doses = [1, 3, 10] }\n'
    'allow_test_split = "dose-response study"',
    "language": 'filters = [{ use = "language", keep = ["zh", "en"] }]',
    "length": 'filters = [{ use = "length", min_chars = 10, max_tokens = 2048 }]',
    "pattern": "filters = [{ use = \"pattern\", drop = ['(?i)as an ai language model', '作为一个人工智能'] }]",
    "quality": 'filters = [{ use = "quality", checks = ["html", "mojibake"] }]',
    "clean": 'filters = [{ use = "clean", whitespace = false }, { use = "quality" }]',
    "dedup": 'filters = [{ use = "dedup", near = false }]',
    "decontaminate": 'filters = [{ use = "decontaminate", benchmarks = ["ceval", "cmmlu"] }]',
}


def page() -> str:
    """Return the whole page as Markdown."""
    parts = [INTRO]
    models: dict[str, type[BaseModel]] = {
        "": RecipeTables, "source": Source, "select": Select, "mix": Mix,
    }  # fmt: skip
    headings = {"": "Top level", "source": "`[source.NAME]`", "select": "`select` of a source", "mix": "`[mix]`"}
    parts += [_table(f"## {headings[name]}", name, _fields(model)) for name, model in models.items()]
    parts += [COLUMNS, "## Builders\n\nRaw rows to conversations: `build = { use = …, … }`.\n"]
    parts += [_step(name, target) for name, target in BUILDERS.items()]
    parts.append(
        "## Filters\n\nWhich conversations stay: `filters = [{ use = …, … }]`, of a source or of the recipe.\n"
    )
    parts += [_step(name, target) for name, target in FILTERS.items()]
    parts.append('## Steps of your own\n\n`use = "module:function"`: see [plugins.md](plugins.md).\n')
    return "\n".join(parts)


Row = tuple[str, str, str, str]  # key, type, default, meaning


def _fields(model: type[BaseModel]) -> list[Row]:
    hints = get_type_hints(model)  # without Annotated's bounds, which errors explain better than a table
    return [
        (
            name,
            type_words(hints[name]),
            "required" if field.is_required() else _default(field.get_default(call_default_factory=True)),
            field.description or "",
        )
        for name, field in model.model_fields.items()
    ]


def _default(value: Any) -> str:
    if value is None or value == [] or value == {} or isinstance(value, BaseModel):
        return "–"
    if isinstance(value, dict):
        return "`{ " + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + " }`"
    return f"`{_toml(value)}`"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def type_words(hint: Any) -> str:
    """Return a type in the words of TOML: `str | list[str] | None` is `text or list of text`."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(dict.fromkeys(type_words(part) for part in inner if part is not type(None)))
    if origin is typing.Annotated:
        return type_words(inner[0])
    if origin is Literal:
        return ", ".join(f'`"{value}"`' for value in inner)
    if origin in (list, tuple, Sequence):
        return f"list of {type_words(inner[0])}"
    if origin is dict and inner[0] is not str and get_origin(inner[0]) is Literal:
        return f"table of {type_words(inner[1])} over {type_words(inner[0])}"
    if origin is dict:
        return "table" if inner[1] is Any else f"table of {type_words(inner[1])}"
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return "table"
    return {str: "text", int: "whole number", float: "number", bool: "`true` or `false`"}.get(hint, "any")


def options(target: Callable[..., Any]) -> list[Row]:
    """Return the options of a builder or filter: keyword-only parameters with the meanings of the docstring."""
    hints = get_type_hints(target.__init__ if inspect.isclass(target) else target)
    meanings = docstring_options(inspect.getdoc(target) or "")
    return [
        (p.name, type_words(hints[p.name]), _required(p), meanings.get(p.name, ""))
        for p in inspect.signature(target).parameters.values()
        if p.kind is p.KEYWORD_ONLY
    ]


def _required(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return "required"
    if parameter.name == "seed":
        return "the recipe's"
    # a dataclass shows a default_factory as an object of its own
    return "–" if type(parameter.default).__name__ == "_HAS_DEFAULT_FACTORY_CLASS" else _default(parameter.default)


def docstring_options(text: str) -> dict[str, str]:
    """Return name -> meaning from docstring lines `name: meaning` (`one, two: meaning`), indented ones joined on."""
    found: dict[str, str] = {}
    names: list[str] = []
    for line in text.splitlines():
        if match := re.match(r"([a-z_]+(?:, [a-z_]+)*): (.+)", line):
            names = match[1].split(", ")
            found |= dict.fromkeys(names, match[2].strip())
        elif names and line.startswith("  "):
            found |= dict.fromkeys(names, f"{found[names[0]]} {line.strip()}")
        else:
            names = []
    return found


def _table(heading: str, table: str, rows: list[Row]) -> str:
    examples = EXAMPLES[table]
    lines = [heading, "", "| key | type | default | meaning | example |", "| --- | --- | --- | --- | --- |"]
    for key, kind, default, meaning in rows:
        cells = (f"`{key}`", kind, default, _sentence(meaning), f"`{key} = {examples[key]}`")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] if not text.startswith("`") else text


def _step(name: str, target: str) -> str:
    module_name, _, attribute = target.partition(":")
    module = importlib.import_module(module_name)
    function = getattr(module, attribute)
    rows = options(function)
    if name == "identity":  # with a file of the user's the builder has one option more
        rows += [row for row in options(module.identity) if row[0] not in {r[0] for r in rows}]
    path = "" if name in BUILDERS else 'path = "mine/*.jsonl"\n'
    example = f"[source.example]\n{path}{STEP_EXAMPLES[name]}"
    # why a short module stands apart is for whoever reads the code
    about = re.sub(r" \(apart: [^)]*\)", "", inspect.cleandoc(module.__doc__ or ""))
    return "\n".join([f"### `{name}`", "", about, "", _table("", name, rows).lstrip(), "```toml", example, "```", ""])


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")  # type: ignore[union-attr]
    sys.stdout.write(page())
