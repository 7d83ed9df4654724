"""What an analysis says, as plain data: the same for the terminal, the page and `--json`. No text is escaped here."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import orjson

from steel_data.analyze.analysis import Analysis
from steel_data.analyze.look import OWN, Column
from steel_data.analyze.measure import QUANTILES, Figures
from steel_data.analyze.parts import Part, merged, nearest_layout
from steel_data.benchmarks.known_tests import names_test
from steel_data.builders.turns import ROLES
from steel_data.errors import excerpt

EXACT = "rows, unreadable rows, columns, layouts, roles, equal rows"
_PLACES = 6  # unreadable rows that are named
_OTHER_SETS = 3


def facts(found: Analysis) -> dict[str, Any]:
    """Return all that was found; `verdict` is its first line. Lengths are in characters and estimated tokens."""
    whole = found.whole
    parts = [_part(part, found) for part in found.parts]
    drawn = sum(part["sampled"]["rows"] for part in parts if part["sampled"])
    sample = {"rows": drawn, "of": whole.rows - whole.unreadable, "one_in": found.step, "exact": EXACT}
    return {
        "verdict": _verdict(found, parts, whole.rows, whole.unreadable),
        "given": list(found.given),
        "rows": whole.rows,
        "unreadable": whole.unreadable,
        "files": len(found.files.files),
        "equal_rows": found.equal_rows,
        "sample": sample if found.step > 1 else None,
        "benchmarks": found.benchmarks,
        "left_out": [{"name": name, "why": why} for name, why in found.files.left_out],
        "parts": parts,
        "recipe": found.recipe,
    }


def _part(part: Part, found: Analysis) -> dict[str, Any]:
    seen = merged(part.looks)
    figures = found.figures.get(part.name)
    names = next(iter(part.others), None)
    near = nearest_layout(names) if names is not None else None
    places = [
        {"file": given.name, "row": row, "error": error}
        for given, one in zip(part.files, part.looks, strict=True) for row, error in one.places
    ]  # fmt: skip
    return {
        "name": part.name,
        "what": _what(part),
        "rows": part.rows,
        "test_split": part.test_split or None,
        "files": [
            {"name": given.name, "format": _format(given.scan.format, given.scan.compression), "rows": one.rows,
             "unreadable": one.unreadable}
            for given, one in zip(part.files, part.looks, strict=True)
        ],
        "unreadable": seen.unreadable,
        "unreadable_places": places[:_PLACES],
        "layouts": dict(part.layouts.most_common()),
        "other_columns": [
            {"columns": ["of their own"] if columns == OWN else list(columns), "rows": rows}
            for columns, rows in part.others.most_common(_OTHER_SETS)
        ],
        "nearest": {"layout": near.layout, "there": near.there, "missing": near.missing} if near else None,
        "first": _first(seen.first[names][0]) if names is not None else None,
        "proposed": part.build if part.proposed else None,
        "mixed_with": part.mixed_with or None,
        "columns": _columns(part, seen.columns, seen.rows - seen.unreadable),
        "roles": _roles(seen.roles),
        "sampled": _sampled(figures) if figures and not figures.fault else None,
        "refused": found.refused.get(part.name),
        "warnings": [
            f"{given.name}: the name says test; if it is an exam that you score by, leave it out"
            for given in part.files if names_test(given.name) and part.name not in found.refused
        ],
    }  # fmt: skip


def _first(row: dict[str, Any]) -> str:
    return excerpt(orjson.dumps(row, option=orjson.OPT_NON_STR_KEYS).decode(), 400)


def _what(part: Part) -> str:
    """Return what the rows are, in a few words."""
    if part.layouts and part.build is not None:
        return f"{part.build['use']}, {' and '.join(part.layouts)}"
    return "no known layout" if part.others else "unreadable"


def _format(kind: str, compression: str) -> str:
    return kind if compression == "none" else f"{kind}, {compression}"


def _columns(part: Part, columns: Mapping[str, Column], rows: int) -> list[dict[str, Any]]:
    """Return the columns, in order of sight. `read`: whether the builder reads it, None where that is not known."""
    read = part.read
    return [
        {
            "name": name, "filled": column.filled, "share": column.filled / max(rows, 1),
            "types": dict(column.types.most_common()), "mean_chars": round(column.chars / max(column.types["text"], 1)),
            "read": name in read if read is not None else None,
        }
        for name, column in columns.items()
    ]  # fmt: skip


def _roles(words: Counter[str]) -> list[dict[str, Any]]:
    """Return the words for roles, the turns that have them, and ours for them (None: not known)."""
    return [
        {"word": word, "turns": turns, "role": ROLES.get(word) or ROLES.get(word.strip().lower())}
        for word, turns in words.most_common()
    ]


def _sampled(figures: Figures) -> dict[str, Any]:
    shares = [f"{round(100 * share)} %" for share in QUANTILES]
    return {
        "rows": figures.rows,
        "built": figures.built,
        "kept": figures.kept,
        "kept_tokens": figures.tokens,
        "dropped": figures.dropped,
        "notes": figures.notes,
        "kinds": figures.kinds,
        "languages": {language: round(share, 4) for language, share in figures.languages.items()},
        "chars": dict(zip(shares, figures.chars, strict=False)),
        "tokens": dict(zip(shares, figures.token_counts, strict=False)),
        "questions": {str(turns): rows for turns, rows in figures.questions.items()},
        "examples": {reason: [vars(one) for one in some] for reason, some in figures.examples.items()},
    }


def _verdict(found: Analysis, parts: list[dict[str, Any]], rows: int, unreadable: int) -> str:
    """Return in one line what it is, how many rows, what would be kept, and what would be lost most."""
    files = found.files.files
    name = files[0].path.name if len(files) == 1 else f"{len(files):,} files"
    kinds = list(dict.fromkeys(part["what"] for part in parts))
    what = kinds[0] if len(kinds) == 1 else f"{len(parts)} parts ({'; '.join(kinds[:3])}{'; …' * (len(kinds) > 3)})"
    said = f"{name}: {count(rows, 'row')}, {what}."
    built = [part for part in parts if part["sampled"] and not part["refused"]]
    if not built:
        return f"{said} Nothing can be built of it: {parts[0]['refused']}."
    read = sum(part["sampled"]["rows"] for part in built)
    kept = sum(part["sampled"]["kept"] for part in built)
    of = f" of {read:,} sampled" if found.step > 1 else "" if read == rows else f" of {read:,}"
    said += f" A build keeps {kept:,}{of} ({percent(kept / max(read, 1))})"
    lost: Counter[str] = Counter()
    for part in built:
        lost.update(part["sampled"]["dropped"])
    if lost:
        reason, most = lost.most_common(1)[0]
        said += f", and loses most to {excerpt(reason, 60)} ({most:,})"
    said += f"; {count(unreadable, 'row')} cannot be read" if unreadable else ""
    return f"{said}."


def count(number: int, word: str) -> str:
    """Return `1 row`, `2 rows`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def percent(share: float) -> str:
    """Return a share as people read it; nothing but all is `100 %`."""
    if share in (0, 1):
        return f"{share:.0%}".replace("%", " %")
    shown = f"{100 * share:.1f}"
    return {"0.0": "< 0.1", "100.0": "> 99.9"}.get(shown, shown) + " %"
