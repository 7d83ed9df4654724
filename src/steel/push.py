"""`steel push`: a mixture or a model with its card to the Hugging Face Hub or to ModelScope, by their own libraries.

What goes is said first, and asked for. Dropped rows stay at home: they quote benchmarks, and what a licence forbids.
"""

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import orjson
import typer

from steel_data.engine import progress
from steel_data.errors import InputError, first_line, nearest, one_line
from steel_data.mixture.manifest import damaged, read_manifest
from steel_data.page.nav import unlinked
from steel_data.recipe.load import portable
from steel_eval.models import find_checkpoints, training_of
from steel_train.models.weights import read_config

HUBS = ("huggingface", "modelscope")
_OF_TRAINING = ("optimizer*", "scheduler*", "rng_state*", "trainer_state*", "training_args*", "steel.json", "README.md")
_TOLD = ("method", "learning_rate", "schedule", "epochs", "max_length")  # settings that the card of a model names
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))


@dataclass(frozen=True)
class Parcel:
    """What is sent: `kind` (dataset or model), files by their name there, texts that are made, what to know first."""

    kind: str
    files: Mapping[str, Path]
    texts: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def contents(self) -> dict[str, Path | bytes]:
        """Return all that is sent, by its name there."""
        return {**self.files, **{name: text.encode() for name, text in self.texts.items()}}

    @property
    def size(self) -> int:
        """Return the bytes of all files."""
        return sum(path.stat().st_size for path in self.files.values())


def push(place: str, repository: str, hub: str = "huggingface", public: bool = False, yes: bool = False) -> str:
    """Send a mixture, a checkpoint or a run's last one, and return its address.

    A repository that is not there is made, private unless `public`. Raises InputError for what is damaged or names
    paths of this machine, where nobody can be asked, and for whatever the hub answers.
    """
    if hub not in HUBS:
        raise InputError(f"--hub {hub}: unknown.{nearest(hub, HUBS)}")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise InputError(f"--repo {repository}: no repository's name. Fix: OWNER/NAME.")
    send = _to_huggingface if hub == "huggingface" else _to_modelscope()
    parcel = packed(place, repository)
    for note in parcel.notes:
        typer.echo(f"note: {one_line(note)}")
    count, megabytes = len(parcel.contents), parcel.size / 1e6
    seen = "everybody can see it" if public else "private, where it is made anew"
    typer.echo(f"{count} files, {megabytes:,.1f} MB, as {parcel.kind} to {repository} on {hub}: {seen}")
    if not yes:
        if not sys.stdin.isatty():
            raise InputError("nobody can be asked here whether to send it. Fix: --yes.")
        try:
            if not typer.confirm("Send it?", default=False):
                return "nothing was sent"
        except typer.Abort:  # Ctrl-C or Ctrl-D, of which typer would say "Aborted!"
            raise KeyboardInterrupt from None
    with progress("send", None):
        return send(parcel, repository, public)


def packed(place: str, repository: str) -> Parcel:
    """Return what would be sent of a mixture, a checkpoint or a run."""
    folder = Path(place)
    if (folder / "manifest.json").is_file():
        return _mixture(folder, repository)
    return _model(find_checkpoints(place)[0][-1].folder, repository)


def _mixture(folder: Path, repository: str) -> Parcel:
    manifest = read_manifest(folder)
    faults = damaged(folder, manifest)
    if faults:
        raise InputError(f"{faults[0]}. Fix: build it again.")
    names = [*manifest["output"], *(manifest.get("truth") or {}), "manifest.json"]
    files = {name: folder / name for name in names if (folder / name).is_file()}
    notes = ["dropped rows are not sent: they quote benchmarks and whatever else was left out"]
    for benchmark in manifest.get("contamination") or {}:
        notes.append(f"this mixture holds test items of {benchmark}: whoever trains on it cannot be scored by that")
    absolute = [name for name in manifest.get("inputs") or {} if PurePath(name).is_absolute()]
    if absolute:
        notes.append(f"manifest and rows name {len(absolute)} inputs by paths of this machine, such as {absolute[0]}")
    notes.append("no licence is stated: add `license: …` to the card there; docs/datasets.md has those of the sources")
    head: dict[str, Any] = {
        "language": [code for code in manifest.get("languages") or () if code != "und"],
        "task_categories": ["text-generation"], "size_categories": [_size(manifest["rows"])], "tags": ["steel"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "train-*.parquet"}]}],
    }  # fmt: skip
    card = (folder / "card.md").read_text(encoding="utf-8") if (folder / "card.md").is_file() else f"# {repository}\n"
    texts = {"README.md": front_matter(head) + _without_front_matter(card)}
    if (folder / "card.html").is_file():  # its links lead to pages that are not sent
        texts["card.html"] = unlinked((folder / "card.html").read_text(encoding="utf-8"))
    return Parcel("dataset", files, texts, tuple(notes))


def _model(folder: Path, repository: str) -> Parcel:
    every = {path.name: path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")}
    files = {name: path for name, path in every.items() if not any(path.match(p) for p in _OF_TRAINING)}
    said = training_of(folder) or {}
    base = _base(folder, said)
    adapter = "adapter_config.json" in files
    if adapter and base is None:
        raise InputError(
            f"{folder}/adapter_config.json: names its base by a path of this machine, where nobody else finds it. "
            "Fix: steel export-model --to merged, and push that."
        )
    head: dict[str, Any] = {
        **({"base_model": base} if base else {}), "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation", "tags": ["steel"],
    }  # fmt: skip
    texts = {"README.md": front_matter(head) + _model_card(repository, said)}
    if said:
        texts["steel.json"] = orjson.dumps(portable(said), option=orjson.OPT_INDENT_2).decode()
    notes = ["no licence is stated: add `license: …` to the card there; that of the base model binds you"]
    notes += [f"it was trained on test items of {name}: the card says so" for name in said.get("contamination") or {}]
    return Parcel("model", files, texts, tuple(notes))


def _base(folder: Path, said: Mapping[str, Any]) -> str | None:
    """Return the hub id of what was trained; None where it was made here or lies on this machine only."""
    config = folder / "adapter_config.json"
    named = read_config(config).get("base_model_name_or_path") if config.is_file() else None
    name = named or (said.get("base") or {}).get("name")
    is_hub = isinstance(name, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not Path(name).exists()
    return name if is_hub else None


def _model_card(repository: str, said: Mapping[str, Any]) -> str:
    """Return what steel.json knows, for people."""
    lines = [f"# {repository.rpartition('/')[2]}", ""]
    if not said:
        return "\n".join([*lines, "No record of its training lies beside the weights.", ""])
    mixture, train = said.get("mixture") or {}, said.get("train") or {}
    lines += [
        f"Trained by steel for {said.get('step')} steps ({said.get('epoch')} epochs) on the mixture "
        f"`{mixture.get('name')}`, content `{mixture.get('content_sha256')}`, seed {said.get('seed')}.",
        "",
        "| setting | value |", "| --- | --- |",
        *(f"| {key} | `{portable(train[key])}` |" for key in _TOLD if key in train),
        "",
    ]  # fmt: skip
    contaminated = said.get("contamination") or {}
    if contaminated:
        doses = "; ".join(
            f"{name}: " + ", ".join(f"{items} items x {dose}" for dose, items in by.items())
            for name, by in contaminated.items()
        )
        lines += [
            f"> **Its training data holds test items ({doses}).** Scores on these benchmarks measure memory too.",
            "",
        ]
    else:
        lines += ["No test items were declared in its training data. `steel.json` has the whole record.", ""]
    return "\n".join(lines)


def _size(rows: int) -> str:
    return next((name for most, name in _SIZES if rows < most), "n>10M")


def front_matter(head: Mapping[str, Any]) -> str:
    """Return the head of a card as the hubs read it: YAML between two lines of dashes (JSON is YAML too)."""
    lines = [f"{key}: {orjson.dumps(value).decode()}" for key, value in head.items() if value]
    return "\n".join(["---", *lines, "---", "", ""])


def _without_front_matter(card: str) -> str:
    return re.sub(r"\A---\n.*?\n---\n+", "", card, flags=re.S)


def _to_huggingface(parcel: Parcel, repository: str, public: bool) -> str:
    import os

    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        api.create_repo(repository, repo_type=parcel.kind, private=not public, exist_ok=True)
        done = api.create_commit(
            repository, [CommitOperationAdd(name, path) for name, path in parcel.contents.items()],
            commit_message=f"Push a {parcel.kind} by steel", repo_type=parcel.kind,
        )  # fmt: skip
    except Exception as error:  # every client error (no token, no right, offline) is the user's to see in one line
        raise InputError(
            f"{repository}: the hub did not take it: {first_line(error)}. Fix: hf auth login, a repository of yours."
        ) from error
    return str(done.commit_url)


def _to_modelscope() -> Callable[[Parcel, str, bool], str]:
    try:
        from modelscope.hub.api import HubApi
    except ImportError:
        raise InputError("ModelScope needs its library. Fix: pip install 'steel-lab[modelscope]'.") from None

    def send(parcel: Parcel, repository: str, public: bool) -> str:
        try:
            api = HubApi()
            if not api.repo_exists(repository, repo_type=parcel.kind):
                api.create_repo(repository, repo_type=parcel.kind, visibility="public" if public else "private")
            for name, content in parcel.contents.items():
                api.upload_file(
                    repo_id=repository, path_or_fileobj=content if isinstance(content, bytes) else str(content),
                    path_in_repo=name, repo_type=parcel.kind, commit_message=f"Push {name} by steel",
                )  # fmt: skip
        except Exception as error:  # as above
            raise InputError(
                f"{repository}: the hub did not take it: {first_line(error)}. Fix: modelscope login."
            ) from error
        return f"{str(api.endpoint or 'https://modelscope.cn').rstrip('/')}/{parcel.kind}s/{repository}"

    return send
