"""Tables of a recipe as they are written: no "3" for 3, no true for 1 (apart: they are read in three packages)."""

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from steel_data.recipe.first_fault import shown


class Table(BaseModel):
    """A table of a recipe. Strict: epochs = "3" is a mistake, not 3; and so is `true`, which pydantic takes for 1.0."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, arbitrary_types_allowed=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        if is_number(cls.model_fields[str(info.field_name)].rebuild_annotation()) and has_boolean(value):
            raise ValueError(f"{info.field_name} = {shown(value)}: no number. Fix: a number")
        return value


def is_number(kind: Any) -> bool:
    """Whether a type is one of fractions, alone or in lists and tables, that has no room for a boolean."""
    text = str(kind)
    return "float" in text and "bool" not in text and "Any" not in text


def has_boolean(value: Any) -> bool:
    """Whether a value is a boolean or holds one, in lists and tables too."""
    if isinstance(value, dict):
        return any(map(has_boolean, value.values()))
    return any(map(has_boolean, value)) if isinstance(value, list) else isinstance(value, bool)
