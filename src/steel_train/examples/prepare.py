"""From a mixture to examples: check it, find or train the tokenizer, encode; what is done already is found again."""

import json
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from steel_data.build import build
from steel_data.engine import progress
from steel_data.errors import InputError
from steel_data.files import address, locked, put_right, replaced_folder, source_sha256
from steel_data.mixture.manifest import damaged, read_manifest
from steel_data.recipe.load import Recipe
from steel_data.recipe.places import places
from steel_data.row.record import text_view
from steel_train.examples.blocks import blocks
from steel_train.examples.encode import Encoder, Learnt
from steel_train.examples.folder import Examples, form_of, make_examples
from steel_train.examples.held_out import hold_out, never_held_out
from steel_train.examples.tokenizer import add_tokens, load_tokenizer, settle, train_tokenizer
from steel_train.models.load import resolve, resolve_base
from steel_train.say import write_json
from steel_train.settings import Settings
from steel_train.tasks import Tasks, read_tasks


@dataclass(frozen=True)
class Prepared:
    """What all seeds of a run share. `held_out`: examples that are looked at, never trained on; `tasks`: what is scored
    while it trains.
    """

    recipe: Recipe
    settings: Settings
    manifest: dict[str, Any]
    tokenizer: Any
    examples: Examples
    held_out: Examples | None = None
    tasks: Tasks | None = None


def prepare(
    recipe: Recipe, settings: Settings, folder: Path, mixture: Path | None, data_root: Path | None, workers: int = 1
) -> Prepared:
    """Make or open mixture, tokenizer and examples, on `workers` processes. Only the main process builds."""
    from accelerate import PartialState

    place = mixture or folder / "mixture"
    if mixture is None and PartialState().is_main_process:
        build(recipe, data_root=data_root, out=place, workers=workers)
    manifest = checked_mixture(place)
    check_form(settings, place, recipe.path)
    tokenizer = make_tokenizer(recipe, settings, folder, place, manifest)
    encoder = make_encoder(recipe, settings, tokenizer)
    examples = make_examples(place, encoder, folder / "examples", manifest["content_sha256"], workers)
    return divided(Prepared(recipe, settings, manifest, tokenizer, examples))


def make_encoder(recipe: Recipe, settings: Settings, tokenizer: Any) -> Encoder:
    """Return what makes examples of the recipe's rows."""
    return Encoder(tokenizer, settings.max_length, settings.overlong, learnt(recipe, settings))


def learnt(recipe: Recipe, settings: Settings) -> Learnt:
    """Return what of each source's rows is learnt. Raises InputError where it is asked for in vain."""
    of_source = {source.name: source.table.loss for source in recipe.sources if source.table.loss is not None}
    if settings.method == "pretrain":
        for name in (name for name, loss in of_source.items() if loss != "all"):
            raise InputError(
                f"{recipe.path} [source.{name}]: loss = 'assistant', but method = 'pretrain' learns all of every row. "
                "Fix: without it."
            )
        return Learnt("all", documents=True)
    for name, loss in of_source.items():
        if loss == "all" and settings.form != "messages":
            raise InputError(
                f"{recipe.path} [source.{name}]: loss = 'all' does nothing with method = '{settings.method}', which "
                "compares answers. Fix: without it."
            )
    return Learnt(settings.loss, of_source)


def divided(prepared: Prepared) -> Prepared:
    """Return it with the rows that `[train.eval]` holds out apart, and documents to pre-train on in blocks.

    Raises InputError where a side would be empty.
    """
    wanted = prepared.settings.eval
    if wanted is None:
        return _in_blocks(prepared)
    try:
        train, held_out = hold_out(prepared.examples, wanted.rows, wanted.share, never_held_out(prepared.manifest))
    except InputError as fault:
        raise InputError(f"{prepared.recipe.path} {fault}") from None
    return _in_blocks(replace(prepared, examples=train, held_out=held_out))


def _in_blocks(prepared: Prepared) -> Prepared:
    """Return it with documents to pre-train on in blocks of `max_length`; anything else as it is."""
    settings, held_out = prepared.settings, prepared.held_out
    if settings.method != "pretrain":
        return prepared
    return replace(
        prepared, examples=blocks(prepared.examples, settings.max_length),
        held_out=None if held_out is None else blocks(held_out, settings.max_length),
    )  # fmt: skip


def tasks_of(recipe: Recipe, settings: Settings, data_root: Path | None) -> Tasks | None:
    """Return the tasks that are scored while it trains, read from where the recipe's data lies. Raises InputError."""
    if settings.eval is None or not settings.eval.tasks:
        return None
    data = places(recipe, data_root, None, None).data_root
    return read_tasks(settings.eval, data, f"{recipe.path} [train.eval]")


def checked_mixture(mixture: Path) -> dict[str, Any]:
    """Return the manifest of a mixture that is whole and not empty. Raises InputError."""
    manifest = read_manifest(mixture)
    faults = damaged(mixture, manifest)
    if faults:
        raise InputError(f"{faults[0]}. Fix: build the mixture again.")
    if manifest["rows"] == 0:
        raise InputError(f"{mixture}: the mixture has no rows. Fix: a recipe whose filters leave some.")
    return manifest


_ROWS = {
    "messages": ("conversations (messages)", "full"),
    "preference": ("pairs (prompt, chosen, rejected)", "dpo"),
    "kto": ("judged answers (prompt, completion, label)", "kto"),
}


def check_form(settings: Settings, mixture: Path, recipe: Path) -> None:
    """Raise InputError where the rows of a mixture are not of the form that the method learns from."""
    found, wanted = form_of(mixture), settings.form
    if found != wanted:
        raise InputError(
            f'{recipe} [train]: method = "{settings.method}" learns from {_ROWS[wanted][0]}, and the mixture has '
            f'{_ROWS[found][0]}. Fix: method = "{_ROWS[found][1]}", or sources of the other form.'
        )


def make_tokenizer(recipe: Recipe, settings: Settings, folder: Path, mixture: Path, manifest: dict[str, Any]) -> Any:
    """Return the tokenizer of the run: named, the model's own, or trained on the mixture and kept in `tokenizer/`."""
    where = f"{recipe.path} [train]"
    if settings.tokenizer is None and isinstance(settings.model, dict):
        name = str(trained_tokenizer(settings.model.get("vocab_size", 16_000), folder, mixture, manifest))
    else:
        name = resolve(settings.tokenizer, recipe.path) if settings.tokenizer else model_s_own(settings, recipe.path)
    tokenizer = load_tokenizer(name, where)
    add_tokens(tokenizer, settings.new_tokens, settings.new_special_tokens, where)
    pretrains = settings.method == "pretrain"
    settle(tokenizer, settings.chat_template, recipe.path, settings.chat_template_kwargs, optional=pretrains)
    if pretrains and tokenizer.eos_token_id is None:
        raise InputError(f"{where}: the tokenizer has no eos to stand between documents. Fix: one that has.")
    return tokenizer


def model_s_own(settings: Settings, recipe: Path) -> str:
    """Return where the model's own tokenizer is: beside an adapter that is trained on, else beside its base."""
    folder = resolve(str(settings.model), recipe)
    is_adapter = (Path(folder) / "adapter_config.json").is_file() and settings.uses_lora
    has_one = (Path(folder) / "tokenizer_config.json").is_file()
    return resolve_base(settings, recipe) if is_adapter and not has_one else folder


def _says(note: Path, key: str) -> bool:
    """Whether a tokenizer was trained for this key; what is damaged is trained again."""
    try:
        return bool(json.loads(note.read_text(encoding="utf-8")) == {"key": key})
    except (OSError, ValueError, RecursionError):
        return False


def trained_tokenizer(size: int, folder: Path, mixture: Path, manifest: dict[str, Any]) -> Path:
    """Return `folder/tokenizer`, a byte-level BPE of `size` entries trained on the mixture; kept if it is there."""
    from steel_data.mixture.rows import files, rows

    target, key = folder / "tokenizer", trained_tokenizer_key(size, manifest["content_sha256"])
    note = target / "steel-tokenizer.json"
    with locked(target, wait=True):  # seeds that are trained side by side ask for the same one at once
        put_right(target)
        if not _says(note, key):
            with replaced_folder(target) as fresh, progress("tokenizer", None):
                train_tokenizer(map(text_view, rows(mixture, files(mixture))), size, fresh)
                write_json(fresh / note.name, {"key": key})
    return target


def trained_tokenizer_key(size: int, content_sha256: str) -> str:
    """Return the SHA-256 of all that a trained tokenizer depends on, our code and the library's included."""
    code = source_sha256("steel_train.examples.tokenizer", "steel_data.row.record")
    return address(size, content_sha256, code, version("tokenizers"))
