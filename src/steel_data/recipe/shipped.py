"""The recipes that come with steel, by name: `@exp3` (apart: load and the list of `steel recipes` both look here).

In a wheel they lie in the package, in a checkout in recipes/ of its root.
"""

from pathlib import Path

from steel_data.errors import InputError, nearest

_PACKAGE = Path(__file__).parents[1]
_PLACES = (_PACKAGE / "recipes", _PACKAGE.parents[1] / "recipes")


def shipped() -> dict[str, Path]:
    """Return the recipes that come with steel, by name."""
    folder = next((place for place in _PLACES if (place / "exp1.toml").is_file()), None)
    return {} if folder is None else {path.stem: path for path in sorted(folder.glob("*.toml"))}


def found(path: Path) -> Path:
    """Return the file that a recipe's path means: a file of this name, else for `@name` the shipped recipe.

    Raises InputError for an `@name` that is neither.
    """
    if not path.name.startswith("@") or len(path.parts) > 1 or path.exists():
        return path
    known = shipped()
    name = path.name[1:].removesuffix(".toml")
    if name not in known:
        raise InputError(f"{path}: no recipe of this name comes with steel.{nearest(name, known)}")
    return known[name]
