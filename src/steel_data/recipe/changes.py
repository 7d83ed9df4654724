"""What two merged recipes ask for differently: dotted keys with both values, and how many things that is."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from steel_data.recipe.load import Mix, RecipeTables, Source
from steel_data.recipe.toml import to_toml

# They name or place an experiment; none of them changes what is in it.
_NAMES = ("name", "data_root", "extends")


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
    return to_toml({"x": value}).removeprefix("x = ").rstrip("\n")


def recipe_changes(old: dict[str, Any], new: dict[str, Any], ignore: tuple[str, ...] = ()) -> list[Change]:
    """Return the keys in which two merged recipes differ, in the order of the old one, then of the new one.

    A key that is not there means its default: `repeat = 1` said and unsaid are the same. A source with `take = 0` is
    not there. `ignore`: top-level keys left out besides names and places.
    """
    changes: list[Change] = []
    _compare((), _without(old, ignore), _without(new, ignore), changes)
    return changes


def _without(recipe: dict[str, Any], ignore: tuple[str, ...]) -> dict[str, Any]:
    kept = {k: v for k, v in recipe.items() if k not in _NAMES and k not in ignore}
    sources = {name: table for name, table in recipe.get("source", {}).items() if table.get("take") != 0}
    return {**kept, "source": sources}


def _compare(path: tuple[str, ...], old: Any, new: Any, changes: list[Change]) -> None:
    if old is None:
        old = _default(path)
    if new is None:
        new = _default(path)
    if old == new or (old in (None, []) and new in (None, [])):
        return
    if isinstance(old, dict) and isinstance(new, dict) and old.get("use") == new.get("use"):
        for key in [*old, *(k for k in new if k not in old)]:
            _compare((*path, key), old.get(key), new.get(key), changes)
    elif _same_steps(old, new):
        for i, (one, two) in enumerate(zip(old, new, strict=True)):
            _compare((*path[:-1], f"{path[-1]}[{i}]"), one, two, changes)
    else:
        changes.append(Change(path, old, new))


def _same_steps(old: Any, new: Any) -> bool:
    """Whether two lists of steps hold the same steps in the same order, so that only options differ."""
    lists = isinstance(old, list) and isinstance(new, list) and len(old) == len(new)
    return lists and all(
        isinstance(a, dict) and isinstance(b, dict) and a.get("use") == b.get("use")
        for a, b in zip(old, new, strict=True)
    )


def _default(path: tuple[str, ...]) -> Any:
    """Return what a key that is not there means, None where that is nothing."""
    if len(path) == 1 and path[0] in ("source", "mix", "train", "eval"):
        return {}
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
        is_source = parts[0] == "source"
        depth = 3 if is_source else 2 if parts[0] in ("mix", "train", "eval") else 1
        key = ".".join(parts[2:depth]) if is_source else ".".join(parts[:depth])
        step = (parts[1] if is_source else "", key or f"source {parts[1]}")
        steps.setdefault(step, []).append(f"{'.'.join(parts[depth:])}: {shown(change.old)} -> {shown(change.new)}")
    alike: dict[tuple[str, str], list[str]] = {}
    for (source, key), what in steps.items():
        alike.setdefault((key, "\n".join(what)), []).append(source)
    return [
        key if not sources[0] or key.startswith("source ") else f"{key} of {', '.join(sources)}"
        for (key, _), sources in alike.items()
    ]
