"""`[search]` of a recipe -> SearchSettings: what varies, in which bounds, on how much, and what is measured."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from steel_data.errors import InputError
from steel_data.recipe.first_fault import first_fault
from steel_data.recipe.strict import Table

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1, strict=False)]
Metric = Literal["gold_bits_per_byte", "gold_probability", "accuracy"]
LOWER = ("loss", "gold_bits_per_byte")  # metrics of which less is better


class SearchMeasure(Table):
    """`measure` of `[search]`: the loss on rows that no arm sees, or scores on questions."""

    held_out: list[str] | None = Field(
        default=None, min_length=1, description="Sources of which rows are kept out of every arm: the mean loss on "
        "their answers, in nats a token; lower is better."
    )  # fmt: skip
    tasks: list[str] | None = Field(
        default=None, min_length=1, description="Questions (`ceval`, `cmmlu-dev`, a jsonl file): dev, val or train "
        "splits; a test split is refused."
    )  # fmt: skip
    metric: Metric = Field(
        default="gold_bits_per_byte", description="What is measured on tasks: bits a byte of the right answer (lower "
        "is better), its probability among the options, or accuracy."
    )  # fmt: skip
    preset: str = Field(default="steel-likelihood", description="How the questions are worded (docs/scoring.md).")
    shots: Annotated[int, Field(ge=0)] = Field(default=0, description="Worked examples in the prompt.")

    @model_validator(mode="after")
    def _one(self) -> "SearchMeasure":
        if (self.held_out is None) == (self.tasks is None):
            raise ValueError('one of held_out and tasks is needed. Fix: measure = { held_out = ["exam"] }')
        names = self.names
        if len(set(names)) != len(names):
            raise ValueError(f"{'tasks' if self.tasks else 'held_out'} = {names}: one stands twice. Fix: each once")
        return self

    @property
    def names(self) -> list[str]:
        """Return the names of what is measured."""
        return list(self.held_out or self.tasks or ())

    @property
    def unit(self) -> str:
        """Return the metric: `loss` on held-out rows, else that of the tasks."""
        return "loss" if self.held_out is not None else self.metric

    @property
    def sign(self) -> int:
        """Return 1 where lower is better, else -1."""
        return 1 if self.unit in LOWER else -1


class SearchSettings(Table):
    """The keys of `[search]`; docs/mix.md lists them."""

    measure: SearchMeasure = Field(examples=['{ held_out = ["exam"] }'], description="What decides between mixtures.")
    vary: list[str] | None = Field(
        default=None, description="Sources, or languages, whose share of the tokens varies; by default every source "
        "that is not injected. The others keep their share."
    )  # fmt: skip
    tokens: Positive | None = Field(
        default=None, description="Tokens of each arm's mixture; by default those of the recipe's, held-out rows aside."
    )
    runs: Positive | None = Field(
        default=None, description="Arms with other shares; by default 4 for each that varies."
    )
    centre: Annotated[int, Field(ge=2)] = Field(
        default=4, description="Runs of the recipe's own mixture, each with another seed: what differs between them is "
        "the noise floor."
    )  # fmt: skip
    bounds: dict[str, Annotated[list[Share], Field(min_length=2, max_length=2)]] = Field(
        default_factory=dict, description="Least and most share of a name, `{ exam = [0.05, 0.6] }`; by default a "
        "third of the recipe's own share, and three times it."
    )  # fmt: skip
    max_repeat: Positive = Field(
        default=4,
        description="How often a row of a source may stand in a mixture, where its data would not suffice.",
    )
    proxy: str | dict[str, Any] | None = Field(
        default=None, description="A smaller model for the arms, as `[train] model`; by default that model itself."
    )
    sequential: bool = Field(
        default=False,
        description="Train the best mixture so far, fit again, and so on: an arm more for each that varies.",
    )
    seed: Annotated[int, Field(ge=0)] = Field(default=1, description="Seeds the choice of arms and their trainings.")

    @model_validator(mode="after")
    def _distinct(self) -> "SearchSettings":
        if self.vary is not None and (len(self.vary) < 2 or len(set(self.vary)) != len(self.vary)):
            raise ValueError(f"vary = {self.vary}: too few, or one twice. Fix: two names or more, each once")
        return self


def read_search(table: dict[str, Any], recipe: Path) -> SearchSettings:
    """Check the `[search]` table of a recipe. Raises InputError that names the key and the nearest known word."""
    if not table:
        raise InputError(f'{recipe} [search]: is missing. Fix: at least measure = {{ held_out = ["exam"] }}.')
    try:
        return SearchSettings.model_validate(table)
    except ValidationError as error:
        raise InputError(first_fault(recipe, ("search",), error, SearchSettings)) from None
