"""What the commands print: tables that can be read at 80 columns and in a log file."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape

from steel_data.build import Result
from steel_data.card.facts import selected, verdict
from steel_data.chinese import heading, language, say
from steel_data.explain.forecast import Forecast
from steel_data.mixture.export import Exported
from steel_data.passes.language_check import agreement
from steel_data.recipe.shipped import shipped
from steel_data.row.display import (
    command,
    console,
    harmless,
    plain_table,
    print_data,
    print_line,
    print_next,
    print_table,
    told_line,
)
from steel_data.store.names import is_far, told


def print_json(found: Result | Forecast) -> None:
    """Print what `print_build` or `print_forecast` print, as one JSON table; the recipe stays in the manifest."""
    if isinstance(found, Forecast):
        print_data(asdict(found))
        return
    manifest = {key: value for key, value in found.manifest.items() if key not in ("recipe", "inputs", "output")}
    print_data({**manifest, "folder": told(found.folder), "fresh": found.fresh, "warnings": list(found.warnings)})


def print_build(result: Result) -> None:
    """Print the ledger of a build: one line a source, then why rows fell, then where the mixture lies."""
    out, manifest = console(), result.manifest
    table = plain_table(
        "source", "read", "unreadable", "built", "dropped", "kept", "sampled out", "repeated", "written", "tokens"
    )
    totals = [0] * 9
    for name, account in manifest["sources"].items():
        dropped = sum(account["dropped"].values())
        columns = ("read", "unreadable", "built", "", "kept", "sampled_out", "repeated", "written", "tokens")
        row = [account[column] if column else dropped for column in columns]
        totals = [a + b for a, b in zip(totals, row, strict=True)]
        table.add_row(harmless(name), *(f"{n:,}" for n in row))
    table.add_section()
    table.add_row(heading("all"), *(f"{n:,}" for n in totals))
    print_table(table, out)
    _print_reasons(out, manifest)
    for name, selection in manifest.get("selections", {}).items():
        told_line(f"{name}: {selected(selection)}", 2, out=out)
    for name, columns in manifest["unused_columns"].items():
        _print_unused(out, name, columns, manifest["sources"][name]["read"])
    for warning in dict.fromkeys(result.warnings):
        told_line(f"warning: {say(warning)}", out=out)
    _print_summary(out, result)
    said = verdict(manifest, list(dict.fromkeys(result.warnings)))
    print_line(("" if language() == "zh" else " ").join(map(say, said)))
    card = [] if is_far(result.folder) else [f"{command('open', result.folder)} opens its data card"]
    print_next(f"{command('show', result.folder)} prints rows", *card)


def _print_unused(out: Console, source: str, columns: dict[str, int], rows: int, sampled: str = "") -> None:
    """Print a source's columns that its builder does not read, with the rows in which they hold something."""
    if not columns:
        return
    shown = [f"'{name}'" if n == rows else f"'{name}' ({n:,})" for name, n in list(columns.items())[:12]]
    more = f" and {len(columns) - 12} more" if len(columns) > 12 else ""
    told_line(f"not read from {source}: {', '.join(shown)}{more}, of {rows:,} rows{sampled}", 2, out=out)


def _print_reasons(out: Console, manifest: dict[str, Any]) -> None:
    reasons = [
        (name, reason, n) for name, account in manifest["sources"].items() for reason, n in account["dropped"].items()
    ]
    for name, reason, n in sorted(reasons, key=lambda r: -r[2])[:12]:
        out.print(f"  {heading('dropped')} {n:>9,}  {harmless(reason)}  ({harmless(name)})")
    if len(reasons) > 12:
        told_line(f"… and {len(reasons) - 12} more reasons: see card.md", 2, out=out)


def _print_summary(out: Console, result: Result) -> None:
    manifest = result.manifest
    tokens = manifest["tokens"]
    shares = ", ".join(f"{k} {v / max(tokens, 1):.1%}" for k, v in list(manifest["languages"].items())[:5])
    tokenizer = manifest["tokenizer"]["name"]
    told_line(f"{manifest['rows']:,} rows, {tokens:,} tokens ({tokenizer}): {shares}", out=out)
    for benchmark, doses in manifest["contamination"].items():
        spread = [f"{n:,} items x {dose}" for dose, n in sorted(doses.items(), key=lambda kv: int(kv[0]))]
        told_line(f"declared contamination with {benchmark}: {', '.join(map(say, spread))}", out=out)
    for source, reason in manifest["test_splits"].items():
        if manifest["recipe"]["source"][source].get("build", {}).get("use") != "contaminate":
            told_line(f"a known test split is training data here: {source} ({reason})", out=out)
    if result.fresh:
        told_line(agreement(manifest["language_check"]), out=out)
    state = "written" if result.fresh else "up to date, verified"
    told_line(
        f"{told(result.folder)}: {state}; content {manifest['content_sha256'][:16]}; see card.html there", out=out
    )


def print_forecast(forecast: Forecast, build: str = "steel build RECIPE") -> None:
    """Print a forecast; `≤` marks upper bounds, `≈` estimates from a sample. `build`: the command that comes next."""
    out = console()
    table = plain_table("source", "raw rows", "rows", "tokens", "repeat", "languages")
    for s in forecast.sources:
        bound, near = ("", "") if s.exact else ("≤ ", "≈ ")
        shares = ", ".join(f"{k} {v:.0%}" for k, v in list(s.languages.items())[:3])
        table.add_row(
            harmless(s.name), f"{s.read:,}", f"{bound}{s.rows:,}", f"{near}{s.tokens:,}", str(s.repeat), shares
        )
    near = "≈ " if forecast.sign else ""
    shares = ", ".join(f"{k} {v:.0%}" for k, v in list(forecast.languages.items())[:3])
    table.add_section()
    table.add_row(heading("mixture"), "", f"{forecast.sign}{forecast.rows:,}", f"{near}{forecast.tokens:,}", "", shares)
    print_table(table, out)
    if forecast.steps is not None:
        told_line(f"optimiser steps: {forecast.sign}{forecast.steps:,} = {forecast.steps_text}", out=out)
    else:
        told_line(f"optimiser steps: not known ({forecast.steps_text})", out=out)
    told_line(f"tokens by {forecast.tokenizer}", out=out)
    if forecast.sign:
        told_line("≤ upper bound, before decontamination and dedup; ≈ from a sample. --exact runs the passes.", out=out)
    for s in forecast.sources:
        _print_unused(out, s.name, s.unused, s.looked, "" if s.exact else " looked at")
    for warning in dict.fromkeys(forecast.warnings):
        told_line(f"warning: {say(warning)}", out=out)
    most = "at most " if forecast.sign else ""
    rows = f"A build would make {most}{forecast.rows:,} rows and {most}{forecast.tokens:,} tokens."
    print_line(say(rows))
    print_next(f"{build} builds the mixture")


def print_export(done: Exported) -> None:
    """Print what an export wrote, what it left out, and what the rows carry that the format does not show."""
    out = console()
    told_line(f"{done.folder}: {done.rows:,} rows written as {done.to} (train.jsonl)", out=out)
    for note, n in done.notes.items():
        told_line(f"{n:,} rows: {note}", 2, out=out)
    for reason, n in done.left_out.items():
        told_line(f"{n:,} rows left out, {reason}: see left_out.jsonl", 2, out=out)
    for benchmark, doses in done.contamination.items():
        items = sum(doses.values())
        warning = f"warning: {items:,} items of {benchmark} are injected, and no longer marked row by row"
        told_line(warning, out=out)
    print_next("steel score RUN --tasks cmmlu,ceval scores what another trainer makes of it")


def print_recipes(as_json: bool) -> None:
    """Print the shipped recipes: name and what their first line says."""
    listed = {f"@{name}": _first_comment(path) for name, path in shipped().items()}
    if as_json:
        typer.echo(json.dumps(listed, ensure_ascii=False, indent=1))
        return
    table = plain_table("recipe", "what it is")
    table.columns[1].justify = "left"
    for name, says in listed.items():
        table.add_row(escape(name), escape(says))
    print_table(table)
    told_line('Use one by its name: steel build @exp3 --data-root DIR. Lay your own over it: extends = "@exp3".')


def _first_comment(path: Path) -> str:
    """Return the first sentence of a recipe's opening comment, on one line."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    text = " ".join(lines)
    return text.split(". ")[0].rstrip(".:")
