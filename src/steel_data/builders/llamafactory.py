"""LLaMA-Factory's `dataset_info.json`: an entry of it as what a source of ours needs.

Read as LLaMA-Factory reads it: where an entry lists columns, those it does not list are not used, and history, system
and tools are used only where listed. (Source: hiyouga/LLaMA-Factory, data/README.md, src/llamafactory/data/parser.py.)
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from steel_data.builders.chat import COLUMNS, KTO, TAGS
from steel_data.errors import InputError, excerpt, nearest
from steel_data.read.formats import SUFFIXES, data_suffix
from steel_data.read.rows import shown
from steel_data.row.json_text import from_json

# All keys of an entry, and of what kind they are. (`om_hub_url`: Modelers; `file_sha1`: of old ones, not
# checked by LLaMA-Factory either.) What is null is not there.
_KEYS: dict[str, type | tuple[type, ...]] = {
    "file_name": str, "hf_hub_url": str, "ms_hub_url": str, "om_hub_url": str, "script_url": str,
    "cloud_file_name": str, "revision": str, "folder": str, "subset": str, "split": str, "num_samples": int,
    "formatting": str, "ranking": bool, "file_sha1": str, "columns": dict, "tags": dict,
}  # fmt: skip
_KINDS = {str: "text", int: "a whole number", bool: "true or false", dict: "an object"}
# Words of a builder's `columns` that are ours alone.
_OURS = {"reasoning", "responses", "scores", "ranks"}
_LAYOUTS: dict[str, str] = {"alpaca": "alpaca", "sharegpt": "sharegpt", "openai": "messages"}


@dataclass(frozen=True)
class DatasetEntry:
    """One data set of a dataset_info.json.

    `files`: paths beside the json, or one hf:// or modelscope:// URI. `layout`, `columns` and `tags` are the arguments
    of the builder `chat` (`""` in columns: not used). `num_samples`: LLaMA-Factory's limit on rows, or None.
    """

    name: str
    files: tuple[str, ...]
    layout: str
    columns: dict[str, str]
    tags: dict[str, str | list[str]] | None
    ranking: bool
    num_samples: int | None


def _entries(path: Path) -> dict[str, Any]:
    try:
        held = from_json(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except FileNotFoundError:
        raise InputError(f"{shown(path)}: no such file. Fix: path = where dataset_info.json lies.") from None
    except OSError as fault:
        raise InputError(f"{shown(path)}: cannot be read ({fault.strerror}). Fix: a file that you may read.") from None
    except orjson.JSONDecodeError as fault:
        raise InputError(f"{shown(path)}: line {fault.lineno}: broken JSON ({fault.msg}). Fix: that line.") from None
    if not isinstance(held, dict):
        raise InputError(f"{shown(path)}: not a dataset_info.json. Fix: an object of data sets by name.")
    return held


def _attributes(where: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of an entry that are not null, each known and of its kind."""
    for key, value in entry.items():
        if key not in _KEYS:
            raise InputError(f"{where}: unknown key '{excerpt(key, 40)}'.{nearest(key, _KEYS)}")
        kind = _KEYS[key]
        if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            what = _KINDS[kind]  # type: ignore[index]
            raise InputError(f"{where}: {key} = {excerpt(str(value), 40)} is another type. Fix: {what}.")
    given = {key: value for key, value in entry.items() if value is not None}
    for key in ("columns", "tags"):
        for word, value in given.get(key, {}).items():
            names = value if isinstance(value, list) and key == "tags" else [value]
            if not all(isinstance(name, str) or (name is None and key == "columns") for name in names):
                more = " or a list of them" if key == "tags" else ""
                raise InputError(f"{where}: {key}: {word} = {excerpt(str(value), 40)} is no name. Fix: a name{more}.")
    return given


def _hub_uri(where: str, attributes: dict[str, Any]) -> str | None:
    """Return the URI of an entry on a hub. Where both are named: Hugging Face, unless USE_MODELSCOPE_HUB is set."""
    hf, ms = attributes.get("hf_hub_url"), attributes.get("ms_hub_url")
    if not hf and not ms:
        return None
    if "[" in str(attributes.get("split")) or "+" in str(attributes.get("split")):
        raise InputError(
            f"{where}: split = '{excerpt(attributes['split'], 40)}': a part of a split is not read. Fix: take."
        )
    wants_ms = os.environ.get("USE_MODELSCOPE_HUB", "").lower() in ("1", "true", "yes", "y", "on")
    hub, repo = ("modelscope", ms) if ms and (wants_ms or not hf) else ("hf", hf)
    revision = f"@{str(attributes['revision']).replace('/', '%2F')}" if attributes.get("revision") else ""
    parts = [str(attributes[key]).strip("/") for key in ("folder", "subset") if attributes.get(key)]
    split = str(attributes.get("split") or "train")
    if split != "train":  # of a folder, the hub's files for training are meant without saying
        parts += ["**", f"*{split}*"]
    return "/".join([f"{hub}://datasets/{repo}{revision}", *parts])


def _files(path: Path, where: str, attributes: dict[str, Any]) -> tuple[str, ...]:
    for key in ("om_hub_url", "script_url", "cloud_file_name"):  # LLaMA-Factory takes them before file_name
        if attributes.get(key):
            raise InputError(f"{where}: {key} is not supported. Fix: download the data and name it with file_name.")
    name = attributes.get("file_name")
    if not isinstance(name, str) or not name:
        raise InputError(f"{where}: nothing says where its data are. Fix: file_name, hf_hub_url or ms_hub_url.")
    for key in ("revision", "folder", "subset", "split"):
        if attributes.get(key, "train") not in ("train", ""):
            raise InputError(
                f"{where}: {key} belongs to a data set of a hub, and file_name is a file. Fix: name its file."
            )
    place = path.parent / name
    if place.is_dir():
        files = sorted(file for file in place.iterdir() if data_suffix(file) in SUFFIXES)
        if not files:
            raise InputError(
                f"{where}: the folder {shown(place)} holds no data file. Fix: one that ends in {', '.join(SUFFIXES)}."
            )
        return tuple(str(file) for file in files)
    if not place.is_file():
        near = nearest(name, [file.name for file in path.parent.iterdir()], show_known=False)
        raise InputError(f"{where}: {shown(place)}: no such file.{near} Fix: file_name as it lies beside the json.")
    return (str(place),)


def _columns(where: str, attributes: dict[str, Any], layout: str) -> dict[str, str]:
    given = attributes.get("columns") or {}
    columns = {str(word): str(name) for word, name in given.items() if name}
    for word in columns:
        if word not in COLUMNS or word in _OURS:
            known = COLUMNS.keys() - _OURS
            raise InputError(f"{where}: columns: unknown word '{excerpt(word)}'.{nearest(word, known)}")
    unused = {"history", "system", "tools"}
    if given and layout == "alpaca":
        unused |= {"prompt", "query", "response"}
    return {**dict.fromkeys(sorted(unused - columns.keys()), ""), **columns}


def entry(path: Path, dataset: str) -> DatasetEntry:
    """Return the data set `dataset` of the dataset_info.json at `path`.

    Raises InputError for an unknown name, a missing file, and what LLaMA-Factory has and a mixture cannot hold: data
    for pre-training, loading scripts. Data of KTO (`kto_tag`) become rows of prompt, completion and label.
    """
    held = _entries(path)
    where = f"{shown(path)}: {excerpt(dataset)}"
    attributes = held.get(dataset)
    if dataset in held and not isinstance(attributes, dict):
        raise InputError(f'{where}: not an object. Fix: {{"file_name": …}}.')
    if not isinstance(attributes, dict):
        raise InputError(f"{shown(path)}: no data set '{excerpt(dataset)}'.{nearest(dataset, held)}")
    attributes = _attributes(where, attributes)
    formatting = str(attributes.get("formatting") or "alpaca")
    if formatting not in _LAYOUTS:
        raise InputError(f"{where}: unknown formatting '{excerpt(formatting)}'.{nearest(formatting, _LAYOUTS)}")
    layout, ranking = _LAYOUTS[formatting], bool(attributes.get("ranking"))
    columns = _columns(where, attributes, layout)
    if ranking and not (columns.get("chosen") and columns.get("rejected")):
        raise InputError(f"{where}: ranking without columns for both answers. Fix: columns chosen and rejected.")
    if ranking and columns.get("kto_tag"):
        raise InputError(
            f"{where}: both ranking (pairs of answers) and kto_tag (one answer, judged). Fix: one of them."
        )
    if layout == "alpaca" and not ranking and columns.get("response") == "":
        raise InputError(
            f"{where}: no response among its columns: text for pre-training. "
            f'Fix: build = {{ use = "document" }} of its file.'
        )
    if layout != "alpaca" and not ranking and "messages" not in columns:
        columns["messages"] = "conversations"
    tags = attributes.get("tags") if layout != "alpaca" else None
    for word in tags or {}:
        if word not in TAGS:
            raise InputError(f"{where}: tags: unknown word '{excerpt(word)}'.{nearest(word, TAGS)}")
    uri = _hub_uri(where, attributes)
    return DatasetEntry(
        name=dataset,
        files=(uri,) if uri else _files(path, where, attributes),
        layout="preference" if ranking else KTO if columns.get("kto_tag") else layout,
        columns=columns,
        tags=dict(tags) if tags else None,
        ranking=ranking,
        num_samples=attributes.get("num_samples"),
    )
