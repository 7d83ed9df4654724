"""The ledger and the manifest: what went in, what came out, and why they differ. Written last; it must balance."""

import hashlib
import json
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath
from typing import Any

import polars as pl

from steel_data import __version__
from steel_data.cache import code_version
from steel_data.errors import InputError
from steel_data.gather import sha256_of
from steel_data.making import UNREADABLE
from steel_data.map import MappedSource
from steel_data.plan import Plan
from steel_data.recipe import Recipe

FORMAT = 1
_PACKAGES = ("polars", "pyarrow", "numpy", "fasttext-community", "rensa", "regex", "tokenizers")


class LedgerError(Exception):
    """The books do not balance: a bug of ours, never the user's fault. The build fails."""


def versions() -> dict[str, str]:
    """Return the versions that can change a mixture's bytes."""
    found = {"steel-lab": __version__, "code": code_version()[:16], "format": str(FORMAT)}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def recipe_sha256(recipe: Recipe) -> str:
    """Return the SHA-256 of the merged recipe without [train], [eval] and where the data lies."""
    tables = {k: v for k, v in recipe.merged.items() if k not in ("train", "eval", "data_root")}
    return hashlib.sha256(json.dumps(tables, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def portable(value: Any) -> Any:
    """Return recipe data without absolute paths: only the last part of each stays (the manifest names no machine)."""
    if isinstance(value, dict):
        return {k: portable(v) for k, v in value.items() if k != "data_root"}
    if isinstance(value, list):
        return [portable(v) for v in value]
    if isinstance(value, str) and PurePath(value).is_absolute() and len(PurePath(value).parts) > 1:
        return PurePath(value).name
    return value


def ledger(plan: Plan, sources: tuple[MappedSource, ...], read: dict[str, int]) -> dict[str, dict[str, Any]]:
    """Return the account of each source and assert that it balances (LedgerError when it does not)."""
    accounts = {}
    for s, source in enumerate(sources):
        mine = plan.frame.filter(pl.col("source") == s)
        reasons = Counter(mine["reason"].drop_nulls().to_list())
        unreadable = reasons.pop(UNREADABLE, 0)
        built = len(mine) - unreadable
        written = mine["written"].to_numpy()
        kept = mine["reason"].is_null().to_numpy()
        account: dict[str, Any] = {
            "read": read[source.name],
            "unreadable": unreadable,
            "made": built - (read[source.name] - unreadable),
            "built": built,
            "kept": int(kept.sum()),
            "dropped": dict(sorted(reasons.items())),
            "sampled_out": int((kept & (written == 0)).sum()),
            "repeated": int((written[kept] - 1).clip(min=0).sum()),
            "written": int(written.sum()),
        }
        notes = Counter(note for notes in mine["note"].drop_nulls().to_list() for note in notes.split(","))
        if notes:
            account["notes"] = dict(sorted(notes.items()))
        account["tokens"] = int((mine["tokens"].fill_null(0).to_numpy().astype("int64") * written).sum())
        _balance(source.name, account, mine)
        accounts[source.name] = account
    return accounts


def _balance(name: str, account: dict[str, Any], rows: pl.DataFrame) -> None:
    readable = rows.filter(pl.col("reason").is_null() | (pl.col("reason") != UNREADABLE))
    raw_rows = readable.select("file", "origin_row").unique().height
    laws = {
        "every readable raw row yields a record": account["made"] >= 0
        and (raw_rows == account["read"] - account["unreadable"] or account["read"] == 0),
        "built = read - unreadable + made": account["built"]
        == account["read"] - account["unreadable"] + account["made"],
        "built = kept + dropped": account["built"] == account["kept"] + sum(account["dropped"].values()),
        "written = kept - sampled_out + repeated": account["written"]
        == account["kept"] - account["sampled_out"] + account["repeated"],
    }
    for law, holds in laws.items():
        if not holds:
            raise LedgerError(f"source {name}: {law} does not hold: {account}")


def contamination(plan: Plan) -> dict[str, dict[str, int]]:
    """Return benchmark -> dose -> items, of what is in the mixture."""
    injected = plan.frame.filter((pl.col("kind") == "injected") & pl.col("reason").is_null())
    counts: dict[str, dict[str, int]] = {}
    for benchmark, dose in sorted(zip(injected["benchmark"], injected["dose"], strict=True)):
        of = counts.setdefault(benchmark, {})
        of[str(dose)] = of.get(str(dose), 0) + 1
    return counts


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a finished mixture. Raises InputError where there is none."""
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{folder}: no manifest.json, so no finished mixture. Right: the folder that `build` wrote."
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}/manifest.json: cannot be read: {error}.") from None
    if not isinstance(manifest, dict):
        raise InputError(f"{folder}/manifest.json: is no mixture's manifest. Right: the folder that `build` wrote.")
    return manifest


def damaged(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """Return what is wrong with a mixture's files: one line each, nothing for a whole one."""
    faults = []
    for name, entry in {**manifest["output"], **manifest.get("dropped_files", {}), **manifest.get("truth", {})}.items():
        path = folder / name
        if not path.is_file():
            faults.append(f"{path}: is missing")
        elif sha256_of(path) != entry["sha256"]:
            faults.append(f"{path}: its bytes are not those that the manifest names")
    return faults
