"""`[trial]` of a recipe -> TrialSettings: which selections are compared, on how much, with how many seeds, by what."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator, model_validator

from steel_data.errors import InputError, nearest
from steel_data.recipe.first_fault import first_fault
from steel_data.recipe.load import Recipe
from steel_data.recipe.selection import Select
from steel_data.recipe.strict import Table
from steel_eval.mix.settings import SearchMeasure

Positive = Annotated[int, Field(gt=0)]
RANDOM, BALANCED = "random", "balanced-random"
_FOLDERS = ("pool", "tokenizer", "recipes", "held-out", ".", "..", "")
OWN = "own"  # of a trial of recipes: the recipe that it stands in


class TrialSettings(Table):
    """The keys of `[trial]`; docs/select.md lists them."""

    arms: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description='Name -> a `select` without rows or tokens: `{ longest = { by = "longest" } '
        "}`. `random` and `balanced-random` are always there."
    )  # fmt: skip
    recipes: dict[str, str | dict[str, Any]] = Field(
        default_factory=dict, description="Instead of `arms`: name -> a recipe, or tables to lay over this one. `own`, "
        "this recipe as it is, is always there."
    )  # fmt: skip
    tokens: Positive = Field(
        examples=[200_000],
        description="Trainable tokens of each arm: those of answers, in all rows of its mixture.",
    )
    measure: SearchMeasure = Field(
        examples=['{ held_out = ["exam"] }'],
        description="What decides: as in `[search]`; a test split is refused.",
    )
    source: str | None = Field(
        default=None, description="The source that is selected from; not needed where it is one."
    )
    balance: str = Field(default="language", description="`within` of `balanced-random`.")
    seeds: list[int] = Field(
        default_factory=lambda: [1, 2, 3], min_length=3, description="Seeds of each arm: 3 or more."
    )
    proxy: str | dict[str, Any] | None = Field(
        default=None, description="A smaller model for the arms, as `[train] model`; by default that model itself."
    )

    @model_validator(mode="after")
    def _one_kind(self) -> "TrialSettings":
        if bool(self.arms) == bool(self.recipes):
            raise ValueError(
                'one of arms and recipes is needed. Fix: arms = { longest = { by = "longest" } }, or recipes = { few = '
                "{ source = { chat = { take = 1000 } } } }"
            )
        return self

    @property
    def controls(self) -> tuple[str, ...]:
        """Return the arms that all others are compared with, the one to be trained first first."""
        return (OWN,) if self.recipes else (RANDOM, BALANCED)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Return which arm is tested against which."""
        between = list(zip(self.controls[1:], self.controls, strict=False))
        return between + [(name, control) for name in (*self.arms, *self.recipes) for control in self.controls]

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) != len(seeds):
            raise ValueError(f"seeds = {seeds}: a seed stands twice. Fix: seeds = [1, 2, 3]")
        return seeds


def read_trial(recipe: Recipe) -> tuple[TrialSettings, str, dict[str, dict[str, Any]]]:
    """Return the settings, the source that is selected from, and each arm's `select` without its size.

    Where recipes are compared, these are "" and none.

    Raises InputError that names the key and the nearest known word.
    """
    where = f"{recipe.path} [trial]"
    if not recipe.trial:
        raise InputError(f'{where}: is missing. Fix: tokens, arms = {{ longest = {{ by = "longest" }} }}, measure.')
    try:
        settings = TrialSettings.model_validate(recipe.trial)
    except ValidationError as error:
        raise InputError(first_fault(recipe.path, ("trial",), error, TrialSettings)) from None
    for name in (*settings.arms, *settings.recipes):
        if name in (*settings.controls, *_FOLDERS) or "/" in name or "\\" in name:
            raise InputError(f"{where}: arms: '{name}' is always there, or another folder's name. Fix: another name.")
    if settings.recipes:
        return settings, "", {}
    return settings, _source(recipe, settings, where), _arms(settings, recipe.path, where)


def _source(recipe: Recipe, settings: TrialSettings, where: str) -> str:
    free = [s.name for s in recipe.sources if not s.builder.injects]
    chosen = [settings.source] if settings.source else [s for s in free if recipe.source(s).table.select] or free
    if len(chosen) != 1:
        named = ", ".join(chosen)
        raise InputError(f"{where}: which source is selected from is not said. Fix: source = one of {named}.")
    if chosen[0] not in free:
        near = nearest(chosen[0], free)
        raise InputError(f"{where}: source: no source '{chosen[0]}' to select from.{near}")
    if recipe.mix.budget_rows or recipe.mix.budget_tokens or recipe.mix.languages or recipe.mix.sources:
        raise InputError(
            f"{recipe.path} [mix]: would cut what the arms select, each otherwise. Fix: no [mix] in a trial; take "
            "on the other sources."
        )
    if recipe.source(chosen[0]).table.repeat != 1:
        raise InputError(f"{recipe.path} [source.{chosen[0]}]: a trial counts rows once. Fix: repeat = 1.")
    return chosen[0]


def _arms(settings: TrialSettings, recipe: Path, where: str) -> dict[str, dict[str, Any]]:
    arms: dict[str, dict[str, Any]] = {
        RANDOM: {"by": "random"}, BALANCED: {"by": "random", "within": settings.balance},
    }  # fmt: skip
    for name, select in settings.arms.items():
        if {"rows", "tokens"} & select.keys():
            raise InputError(f"{recipe} [trial.arms.{name}]: rows and tokens are the trial's. Fix: without them.")
        try:
            Select.model_validate({**select, "rows": 1})
        except ValidationError as error:
            raise InputError(first_fault(recipe, ("trial", "arms", name), error, Select)) from None
        arms[name] = select
    return arms
