"""`fetch RECIPE`: bring the data that the sources' `origin` names to where their `path` expects it.

The commit that each origin had is written to `.steel-origins.json` in the data root; fetching again takes that commit,
so that two machines and two months give the same files. Delete the entry to move on to a newer one.
"""

import json
from pathlib import Path

import typer

from steel_data.errors import InputError
from steel_data.files import atomic_write
from steel_data.read.hub import fetch, is_hub_uri
from steel_data.recipe.load import load
from steel_data.recipe.places import places

PINS = ".steel-origins.json"


def fetch_recipe(recipe_path: Path, data_root: Path | None) -> None:
    """Fetch every source of a recipe that has an `origin`, and say for each of the others why it was left alone."""
    recipe = load(recipe_path)
    root = places(recipe, data_root, None, None).data_root
    pins: dict[str, str] = _pins(root)
    for source in recipe.sources:
        table = source.table
        if table.origin is None:
            typer.echo(f"{source.name}: no origin; nothing to fetch")
            continue
        if not is_hub_uri(table.origin):
            typer.echo(f"{source.name}: not on a hub, get it by hand from {table.origin}")
            continue
        if len(table.paths) != 1 or is_hub_uri(table.paths[0]):
            raise InputError(
                f"{recipe.path} [source.{source.name}]: origin needs path to be one place under the data root."
            )
        report = fetch(pinned(table.origin, pins), table.paths[0], root)
        pins[table.origin] = report.revision
        atomic_write(root / PINS, (json.dumps(pins, indent=2, sort_keys=True) + "\n").encode())
        typer.echo(
            f"{source.name}: {len(report.files)} files at {report.revision[:12]}, {report.downloaded} new "
            f"({report.bytes / 1e6:,.1f} MB)"
        )


def _pins(root: Path) -> dict[str, str]:
    try:
        pins = json.loads((root / PINS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{root / PINS}: cannot be read: {error}. Right: delete it, or mend it.") from None
    return {str(k): str(v) for k, v in pins.items()}


def pinned(origin: str, pins: dict[str, str]) -> str:
    """Return the origin with the commit that was fetched before, unless it names a revision itself."""
    scheme, _, rest = origin.partition("://")
    parts = rest.split("/")
    if origin not in pins or len(parts) < 3 or "@" in parts[2]:
        return origin
    parts[2] += f"@{pins[origin]}"
    return f"{scheme}://{'/'.join(parts)}"
