"""Why is this row in the mixture, or why is it not? Kept where; or dropped by which step, because of which other row.

A query is a row's origin (`file:row`), an id or the beginning of one, a benchmark's item, or text. Kept and dropped
rows are found in the mixture's own files. Rows that were sampled out are counted there, not stored: for them the
recipe in the manifest is run once more on the cache (sampled_out.py).
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.text import Text

from steel_data.chinese import heading, say
from steel_data.errors import InputError, nearest
from steel_data.explain.query import ORIGIN, Again, Answer, Found, Place, Query, Witness, readings, steps
from steel_data.mixture.manifest import read_manifest
from steel_data.mixture.rows import Row, collect, rows_at, scan, schema
from steel_data.row.alignment import shared
from steel_data.row.display import command, console, one_line, shortened, told_line, turns, visible

_NARROW = ("file", "at", "id", "copy", "source", "origin_file", "origin_row")
_TRUTH = ("benchmark", "item", "dose", "form", "source")
_LENGTH, _TURNS, _PLACES = 400, 8, 6
_STYLES = {"kept": "bold green", "dropped": "bold red", "unreadable": "bold red", "sampled out": "bold yellow"}


def ask(folder: Path, text: str, again: Again | None = None, number: int = 5) -> Answer:
    """Return what became of the row, item or text that is asked for.

    number: how many records are told in full. Raises InputError for an empty query, a folder without a finished
    mixture, and where a row that may have been sampled out cannot be recomputed.
    """
    if not text.strip():
        raise InputError("nothing is asked for. Fix: file:row, an id, an item such as cmmlu/test/law/00001, or text.")
    manifest = read_manifest(folder)
    possible = readings(text, manifest)
    for query in possible:
        for loose in (False, True) if query.meant == "text" else (False,):
            answer = _stored(folder, manifest, query, number, loose)
            if answer is not None:
                return answer
    return _unstored(folder, manifest, possible[0], again or Again(), number)


def _stored(folder: Path, manifest: Row, query: Query, number: int, loose: bool) -> Answer | None:
    """Look through the mixture's files; None where no row fits."""
    kept, dropped = (_search(folder, manifest[part], query, loose) for part in ("output", "dropped_files"))
    notes = _item_notes(folder, manifest, query) if query.meant == "item" else []
    keys = ["source", "origin_file", "origin_row", "id"]
    groups = kept.group_by(keys, maintain_order=True).agg("file", "at", "copy")
    total = len(groups) + len(dropped)
    if not total and not notes:
        return None
    found = [_kept(folder, manifest, group) for group in groups.head(number).iter_rows(named=True)]
    fallen = dropped.head(number - len(found)).select("file", "at").rows()
    found += [_dropped(folder, manifest, row) for _, row in rows_at(folder, fallen)]
    if loose:
        notes.append("found without regard to width, case and blanks")
    left_out = sum(account["sampled_out"] for account in manifest["sources"].values())
    if left_out and query.meant == "text":
        notes.append(f"{left_out:,} rows were sampled out and are not looked through where others fit")
    return Answer(query.text, query.meant, total, tuple(found), tuple(notes))


def _search(folder: Path, names: Iterable[str], query: Query, loose: bool = False) -> pl.DataFrame:
    """Return the places and narrow columns of the rows that a query means, in order."""
    files = scan(folder, names := list(names))
    return collect(folder, files.filter(query.condition(schema(folder, *names), loose)).select(_NARROW))


def _item_notes(folder: Path, manifest: Row, query: Query) -> list[str]:
    """Say what the injector's truth file knows of an item."""
    notes = []
    benchmark, item = query.parts
    if manifest["truth"]:
        truth = collect(folder, scan(folder, manifest["truth"]).filter(pl.col("item") == item).select(_TRUTH))
        for row in truth.iter_rows(named=True):
            if benchmark in ("", row["benchmark"]):
                fate = f"injected with dose {row['dose']}, form {row['form']}" if row["dose"] else "not drawn (dose 0)"
                notes.append(f"{row['benchmark']}/{item}: {fate} by source {row['source']}")
    return notes


def _kept(folder: Path, manifest: Row, group: Row) -> Found:
    places = sorted(map(Place, group["file"], group["at"], group["copy"]), key=lambda place: place.copy)
    ((_, row),) = rows_at(folder, [(group["file"][0], group["at"][0])])
    return Found("kept", row, tuple(places), passed=steps(manifest["recipe"], row))


def _dropped(folder: Path, manifest: Row, row: Row) -> Found:
    if row["reason"] == "unreadable":
        return Found("unreadable", row)
    found = Found("dropped", row, passed=steps(manifest["recipe"], row))
    if row["witness_id"] is None:
        return found
    where = _where(folder, manifest, row["witness_id"])
    return replace(found, witness=Witness(row["witness_id"], row["witness_text"] or "", where))


def _where(folder: Path, manifest: Row, witness: str) -> str:
    """Say where the other side of a drop stands: a benchmark's item, or another row."""
    if "/" in witness:
        benchmark, _, item = witness.partition("/")
        notes = _item_notes(folder, manifest, Query(witness, "item", (benchmark, item)))
        return notes[0].partition(": ")[2] if notes else "an item of a benchmark, not injected here"
    query = Query(witness, "id", (witness,))
    kept = _search(folder, manifest["output"], query)
    if len(kept):
        first = kept.row(0, named=True)
        more = f", and {len(kept) - 1:,} more" if len(kept) > 1 else ""
        return f"kept: {first['file']} row {first['at']} ({first['origin_file']} row {first['origin_row']}){more}"
    fell = _search(folder, manifest["dropped_files"], query).select("file", "at").rows()
    for _, row in rows_at(folder, fell):
        if row["witness_id"] != witness:
            return f"itself dropped later: {row['reason']}"
    return "kept, then sampled out: it stands in no train file"


def _unstored(folder: Path, manifest: Row, query: Query, again: Again, number: int) -> Answer:
    """Answer for what no file of the mixture holds: sampled out, or nowhere at all."""
    if query.meant == "item":
        return Answer(query.text, "item", 0, (), ("no row holds it, and no injector drew from its split",))
    if query.meant == "origin":
        name, number_of_row = query.parts[0], int(query.parts[1])
        for file, entry in manifest["inputs"].items():
            if (file == name or file.endswith(f"/{name}")) and number_of_row >= entry["rows"] and _one_row_a_line(file):
                return Answer(query.text, "origin", 0, (), (f"{file} has {entry['rows']:,} rows, counted from 0",))
    left_out = {name: account["sampled_out"] for name, account in manifest["sources"].items() if account["sampled_out"]}
    if not left_out:
        notes = ["it is in none of the inputs: of those, every row was kept or dropped, none sampled out"]
        if (match := ORIGIN.fullmatch(query.text.strip())) and query.meant == "text":
            notes.append(f"no input is called '{match[1]}'.{nearest(match[1], manifest['inputs'], show_known=False)}")
        return Answer(query.text, query.meant, 0, (), tuple(notes))
    from steel_data.explain.sampled_out import recompute

    return recompute(folder, manifest, query, again, number)


def _one_row_a_line(file: str) -> bool:
    # in JSON lines rows are numbered by line, and blank lines are none: the last row's number may be above their count
    return not any(f".{kind}" in file for kind in ("jsonl", "ndjson", "txt"))


def print_answer(answer: Answer, out: Console | None = None) -> None:
    """Print an answer. All text of rows is made harmless: control characters show as escapes."""
    out = out or console()
    for found in answer.found:
        out.print(Text(f"{heading(found.verdict)}: {_facts(found)}", style=_STYLES[found.verdict]), soft_wrap=True)
        for line in _lines(found):
            out.print(Text("  " + line), soft_wrap=True)
        out.print()
    if answer.total > len(answer.found):
        told_line(f"{len(answer.found):,} of {answer.total:,} records; more with -n", out=out)
    if not answer.total:
        told_line(f"not found as {answer.meant}: {answer.query.strip()[:80]}", out=out)
    for note in answer.notes:
        told_line(f"note: {say(note)}", out=out)


def next_steps(answer: Answer, folder: str) -> list[str]:
    """Return what may be asked next of the mixture `folder`: the other side of a drop, or rows of the same fate."""
    if not answer.found:
        return []
    found = answer.found[0]
    source = str(found.row["source"])
    if found.verdict not in ("dropped", "unreadable"):
        return [f"{command('show', folder, source=source)} prints rows of this source"]
    steps = [f"{command('show', folder, '--dropped', source=source)} prints what else this source lost"]
    if found.witness and "/" not in found.witness.id:
        steps = [f"{command('why', folder, found.witness.id)} says what became of the other row", *steps]
    return steps


def _facts(found: Found) -> str:
    row = found.row
    facts = [row.get("source"), row.get("kind"), row.get("language")]
    if row.get("chars") is not None:
        facts.append(say(f"{row['chars']:,} characters"))
    facts.append(f"{row['origin_file']} row {row['origin_row']}")
    if row.get("rating") is not None:
        facts.append(f"rated {row['rating']:.6g}")
    if row.get("item"):
        facts.append(f"{row['benchmark']}/{row['item']}, dose {row['dose']}")
    return " · ".join(one_line(str(fact)) for fact in [*facts, row.get("id")] if fact)


def _lines(found: Found) -> list[str]:
    row, lines = found.row, []
    if found.places:
        lines.append(_places(found.places))
    if found.why:
        lines.append(say(f"why: {one_line(found.why)}"))
    if row.get("reason"):
        lines.append(say(f"step {one_line(row['step'] or '')}, reason {one_line(row['reason'])}"))
    if found.passed:
        word = "passed before" if row.get("reason") else "passed"
        lines.append(say(f"{word}: {one_line(', '.join(map(say, found.passed)))}"))
    if row.get("error"):
        lines += [say("evidence:"), *_indented(row["error"])]
    for turn in shortened(turns(row), _LENGTH, _TURNS):
        lines += [f"{one_line(turn.label)}:" if turn.label else "…", *_indented(turn.text)]
        if turn.more:
            lines.append(say(f"  … {turn.more:,} more characters"))
    if found.witness:
        lines += [say(f"because of {one_line(found.witness.id)} ({one_line(found.witness.where)}):")]
        lines += _indented(found.witness.text[: 2 * _LENGTH])
        if row.get("step") == "decontaminate":
            lines += _both_sides(row, found.witness.text)
    return lines


def _both_sides(row: Row, item: str) -> list[str]:
    """Say what row and item have in common, as each of them has it."""
    found = [(both, turn) for turn in turns(row) if (both := shared(item, turn.text))]
    if not found:
        return []
    (mine, its), turn = max(found, key=lambda one: one[0][0].stop - one[0][0].start)
    lines = []
    for whose, text in ((one_line(turn.label), turn.text[its]), (say("the item"), item[mine])):
        lines += [say(f"shared, as {whose} has it:"), *_indented(text)]
    return lines


def _indented(text: str) -> list[str]:
    return ["  " + line for line in visible(text[: 2 * _LENGTH].rstrip("\n")).split("\n")]


def _places(places: tuple[Place, ...]) -> str:
    shown = ", ".join(f"{place.file} row {place.at}" for place in places[:_PLACES])
    more = f" and {len(places) - _PLACES:,} more" if len(places) > _PLACES else ""
    copies = f"{len(places):,} copies: " if len(places) > 1 else ""
    return say(f"{copies}{shown}{more}")
