"""`[eval]` of a recipe -> StudySettings: what a contamination study scores, and which arms it has."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from steel_data.errors import InputError
from steel_data.recipe.first_fault import first_fault
from steel_data.recipe.strict import Table
from steel_eval.models import Opening

Count = Annotated[int, Field(gt=0)]


class StudySettings(Table):
    """The keys of `[eval]`; docs/contamination.md lists them. Options of the command line win over them."""

    tasks: list[str] = Field(
        default=["cmmlu", "ceval"], min_length=1, description="What is scored: the injected benchmark, and others "
        "for spill-over."
    )  # fmt: skip
    presets: list[str] = Field(
        default=["steel-likelihood", "lm-eval"], min_length=1, description="Prompt presets; the first is the study's "
        "own, the others show what the same memory does under other wordings."
    )  # fmt: skip
    shots: Annotated[int, Field(ge=0)] = Field(default=0, description="Worked examples in the prompt.")
    checkpoints: Literal["last", "all"] = Field(
        default="last", description="Score each run's last checkpoint, or every one of the injected arms for the curve "
        "over exposures consumed."
    )  # fmt: skip
    placebo: str | None = Field(
        default=None, description="A benchmark, one of its splits (`ceval-val`) or a jsonl file under the data root: "
        "its items stand in for the injected ones in an arm of their own."
    )  # fmt: skip
    diluted: dict[str, Count] | None = Field(
        default=None, description="Adds an arm that injects by this table of doses, so that its injected share is "
        "smaller: `{ 1 = 60, 10 = 40 }`."
    )  # fmt: skip
    dtype: str = Field(default="auto", description="In which type is computed, as `--dtype` of `score` and `leak`.")
    limit: Count | None = Field(
        default=None, description="Of each subject so many questions alone, chosen by their text: a try."
    )  # fmt: skip
    max_length: Annotated[int, Field(ge=2)] | None = Field(
        default=None, description="A shorter context than the models', in tokens: longer prompts are cut, detectors "
        "leave longer items out."
    )  # fmt: skip
    max_new_tokens: Count | None = Field(default=None, description="Of a written answer, in place of the preset's.")
    thinking: Literal["on", "off"] | None = Field(
        default=None, description="The chat template's switch for thoughts, while scoring."
    )  # fmt: skip
    chat_template_kwargs: dict[str, Any] = Field(
        default={}, description="Variables of the chat template while scoring, over those of training."
    )  # fmt: skip
    pool: bool = Field(
        default=False, description="In place of the arms one run a seed, each with its own draw of items, doses and "
        "forms: the runs that did not see an item are the reference of those that did."
    )  # fmt: skip
    detectors: bool = Field(default=True, description="Measure the detectors' error rates on the injected arms.")
    permute: Annotated[int, Field(ge=0)] = Field(
        default=300, description="Items a dose, and unseen items, whose options are permuted for the detectors."
    )
    in_context: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Other items of the subject that stand before each for CoDeC; 0: it is not measured."
    )
    primary: Any = Field(default=None, description="The primary comparison of `compare`; a study does not read it.")

    @model_validator(mode="after")
    def _one_design(self) -> "StudySettings":
        """A pool has no arms."""
        arms = [key for key in ("placebo", "diluted") if getattr(self, key) is not None]
        if self.pool and arms:
            raise ValueError(f"pool = true has no arms, so no {arms[0]}. Fix: one of them")
        return self

    @field_validator("tasks", "presets")
    @classmethod
    def _distinct(cls, names: list[str], info: ValidationInfo) -> list[str]:
        if len(set(names)) != len(names):
            raise ValueError(f"{info.field_name} = {names}: one stands twice. Fix: each once")
        return names

    def opening(self) -> Opening:
        """Return how the study's models are opened for scoring."""
        return Opening(
            max_length=self.max_length, thinking=self.thinking, chat_template_kwargs=self.chat_template_kwargs
        )


# An option of `score` that is no option of a study, and what says it there.
_OF_RECIPE = {
    "base": "[train] model, or --set train.model=…",
    "tokenizer": "[train] tokenizer, or --set train.tokenizer=…",
    "revision": "[train] model, fetched at that revision",
    "trust-remote-code": "a model of transformers' own classes; a study runs no code that lies beside weights",
}


def refuse_of_recipe(said: dict[str, Any]) -> None:
    """Raise InputError for an option about a model: a study trains its own, which the recipe describes."""
    for name, value in said.items():
        if value:
            shown = "" if value is True else f" {value}"
            raise InputError(f"study --{name}{shown}: a study trains its own models. Fix: {_OF_RECIPE[name]}.")


def read_study_settings(table: dict[str, Any], recipe: Path, over: dict[str, Any]) -> StudySettings:
    """Check the `[eval]` table of a recipe, with the options `over` it that are not None.

    Raises InputError that names the key and the nearest known word.
    """
    try:
        return StudySettings.model_validate(table | {k: v for k, v in over.items() if v is not None})
    except ValidationError as error:
        raise InputError(first_fault(recipe, ("eval",), error, StudySettings)) from None
