"""What two dictionaries differ in, key by key; and what two merged recipes ask for differently, in how many things."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from steel_data.recipe.load import NOT_OF_MIXTURE, Mix, RecipeTables, Source, to_toml

# They name or place an experiment; none of them changes what is in it.
_NAMES = ("name", "data_root", "extends")
_TABLES = ("mix", *NOT_OF_MIXTURE)  # whose absence is an empty table


@dataclass(frozen=True)
class Change:
    """One key that differs. A value of None: the key is not there. Lists of steps are compared step by step."""

    path: tuple[str, ...]
    old: Any
    new: Any

    @property
    def key(self) -> str:
        """The dotted key."""
        return ".".join(self.path)

    def line(self) -> str:
        """Return `source.a.take: 200 -> 300`."""
        return f"{self.key}: {shown(self.old)} -> {shown(self.new)}"


def shown(value: Any) -> str:
    """Return a value as TOML writes it on one line; `(not there)` for None."""
    if value is None:
        return "(not there)"
    if isinstance(value, dict):
        inside = ", ".join(f"{k} = {shown(v)}" for k, v in value.items() if v is not None)
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list):
        return "[" + ", ".join(map(shown, value)) + "]"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:_}" if abs(value) >= 10_000 else str(value)
    return to_toml({"x": value}).removeprefix("x = ").rstrip("\n")


def changes(old: Any, new: Any, path: tuple[str, ...] = ()) -> list[Change]:
    """Return where two values of JSON's types differ: the keys of the old one in order, then those of the new one.

    Tables are compared key by key, lists of the same steps (`use`) step by step, anything else as a whole. `path`:
    where the two stand.
    """
    if isinstance(old, dict) and isinstance(new, dict) and old.get("use") == new.get("use"):
        return [change for key in {**old, **new} for change in changes(old.get(key), new.get(key), (*path, key))]
    if _same_steps(old, new):
        steps = enumerate(zip(old, new, strict=True))
        return [
            change for i, (a, b) in steps for change in changes(a, b, (*path[:-1], f"{path[-1] if path else ''}[{i}]"))
        ]
    return [] if old == new else [Change(path, old, new)]


def recipe_changes(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """Return the keys in which two merged recipes differ.

    A key that is not there means its default: `repeat = 1` said and unsaid are the same. A source with `take = 0` is
    not there. Names and places are left out.
    """
    found: list[Change] = []
    for change in changes(_without(old), _without(new)):
        one, two = (_default(change.path) if value is None else value for value in (change.old, change.new))
        found += changes(one, two, change.path)
    return [change for change in found if change.old not in (None, []) or change.new not in (None, [])]


def _without(recipe: dict[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in recipe.items() if k not in _NAMES}
    sources = {name: table for name, table in recipe.get("source", {}).items() if table.get("take") != 0}
    tables = {name: recipe.get(name) or {} for name in _TABLES}
    return {**kept, "source": sources, **tables}


def _same_steps(old: Any, new: Any) -> bool:
    """Whether two lists of steps hold the same steps in the same order, so that only options differ."""
    lists = isinstance(old, list) and isinstance(new, list) and len(old) == len(new)
    return lists and all(
        isinstance(a, dict) and isinstance(b, dict) and a.get("use") == b.get("use")
        for a, b in zip(old, new, strict=True)
    )


def _default(path: tuple[str, ...]) -> Any:
    """Return what a key that is not there means, None where that is nothing."""
    tables: dict[tuple[int, str], type[BaseModel]] = {(2, "mix"): Mix, (3, "source"): Source}
    model = RecipeTables if len(path) == 1 else tables.get((len(path), path[0]))
    if model is None or path[-1] not in model.model_fields:
        return None
    default = model.model_fields[path[-1]].get_default(call_default_factory=True)
    return default if default not in ([], {}) else None


def things(changes: list[Change]) -> list[str]:
    """Return what was changed, one line a thing: what a reader would call one decision.

    A whole source is one thing, all options of one step are one, and the same change in several sources is one.
    """
    steps: dict[tuple[str, str], list[str]] = {}  # (source, key) -> what changed in it
    for change in changes:
        parts = change.path
        is_source = parts[:1] == ("source",) and len(parts) > 1
        depth = 3 if is_source else 2 if parts[:1] and parts[0] in _TABLES else 1
        key = ".".join(parts[2:depth]) if is_source else ".".join(parts[:depth])
        step = (parts[1] if is_source else "", key or (f"source {parts[1]}" if is_source else "recipe"))
        steps.setdefault(step, []).append(f"{'.'.join(parts[depth:])}: {shown(change.old)} -> {shown(change.new)}")
    alike: dict[tuple[str, str], list[str]] = {}
    for (source, key), what in steps.items():
        alike.setdefault((key, "\n".join(what)), []).append(source)
    return [
        key if not sources[0] or key.startswith("source ") else f"{key} of {', '.join(sources)}"
        for (key, _), sources in alike.items()
    ]
