"""`[source.x] select`: which of a source's rows are chosen, by what, how many, and in balance over which groups."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from steel_data.recipe.strict import Table

Positive = Annotated[int, Field(gt=0)]
By = Literal["random", "longest", "length", "dsir", "perplexity", "ifd", "rds", "duplicates-last"]
RATED = ("perplexity", "ifd", "rds")  # what a model rates, before the build: `python -m steel_eval rate`
AIMED = ("dsir", "rds")  # what compares rows with a target


class Select(Table):
    """`select` of a source; docs/select.md has what each `by` means, and its source."""

    by: By = Field(
        examples=['"random"'],
        description="`random` (keyed hash), `longest` (characters of the answers), `length` (tokens of the row), "
        "`dsir` (n-grams like the target's), `perplexity` (of the answers, lowest first), `ifd` (hardest to follow "
        "first), `rds` (hidden states like the target's), `duplicates-last` (one of each cluster of alike rows first).",
    )
    rows: Positive | None = Field(default=None, description="How many rows. More than there are: an error.")
    tokens: Positive | None = Field(default=None, description="The same in tokens; whole rows, never more than asked.")
    within: str | None = Field(
        default=None,
        description="Equal parts of each group: `language`, `source` (the raw column `source` where `meta` keeps it, "
        "else the file), or any column that `meta` keeps, such as `subject` or `tag`. A group that is too small gives "
        "all it has.",
    )
    target: str | list[str] | None = Field(
        default=None,
        description="What `dsir` and `rds` compare with: a benchmark and its split (`ceval/val`), or files under the "
        "data root. A test split is refused: what it chose, it cannot judge.",
    )
    model: str | None = Field(
        default=None,
        description="Whose ratings (`perplexity`, `ifd`, `rds`): the model's name or the beginning of its fingerprint; "
        "needed where several models have rated.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Select":
        if self.rows is not None and self.tokens is not None:
            raise ValueError("rows and tokens are both given. Fix: one of them")
        if self.rows is None and self.tokens is None:
            raise ValueError(f'select needs one of rows and tokens. Fix: select = {{ by = "{self.by}", rows = 1000 }}')
        if self.by in AIMED and not self.targets:
            raise ValueError(
                f'select by = "{self.by}" compares with a target, and none is given. Fix: target = "ceval/val"'
            )
        if self.by not in AIMED and self.target is not None:
            raise ValueError(f'select by = "{self.by}" compares with no target. Fix: by = "dsir", or no target')
        if self.by not in RATED and self.model is not None:
            raise ValueError(f'select by = "{self.by}" needs no model. Fix: by = "ifd", or no model')
        return self

    @property
    def targets(self) -> list[str]:
        """The target's places as a list."""
        return [self.target] if isinstance(self.target, str) else list(self.target or [])

    @property
    def asked(self) -> str:
        """What is asked for, as the recipe says it."""
        return f"rows = {self.rows:,}" if self.rows is not None else f"tokens = {self.tokens:,}"
