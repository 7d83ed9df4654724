"""The warning labels as the report shows them: a note below a table, a comparison's last sentence, the drill-down."""

from collections.abc import Mapping, Sequence
from typing import Any

from steel_data.row.display import visible
from steel_eval.compare.runs import Arm, Result
from steel_eval.contamination.label import MARK, Mark, comparison_warning
from steel_eval.report.marks import Marks


def note(name: str, mark: Mark) -> str:
    """Return the footnote of one score: what was seen, the clean estimate and its basis, what nobody looked at."""
    if not mark.contaminated:
        return ". ".join(part for part in (f"{name}: {mark.short()}", mark.caveat()) if part) + "."
    parts = (f"{MARK} {name}: {mark.sentence()}", mark.weight(), mark.estimated(), mark.caveat())
    return ". ".join(part for part in parts if part) + "."


def declared_words(said: Mapping[str, Mapping[str, int]] | None) -> str:
    """Return what a mixture declares: `cmmlu: 30 items x 1, 10 items x 3`."""
    if said is None:
        return "unknown"
    counts = {b: ", ".join(f"{n:,} items x {dose}" for dose, n in doses.items()) for b, doses in said.items()}
    return "; ".join(f"{benchmark}: {doses}" for benchmark, doses in counts.items()) or "none"


def relabelled(test: Mapping[str, Any], arms: Sequence[Arm], marks: Marks) -> dict[str, Any]:
    """Return a comparison with the labels that this report found, which may be more than `compare` knew."""
    found = []
    for name in (test["a"], test["b"]):
        number = next((i for i, arm in enumerate(arms) if arm.name == name), None)
        if number is None or test["task"] not in marks:
            return dict(test)  # a file of other arms' comparisons: as it stands
        found.append(max(marks[test["task"]][number], key=lambda mark: mark.seen))
    warning = comparison_warning(test["a"], test["b"], found[0], found[1])
    shown = str(test["verdict"]).removesuffix(str(test.get("warning") or "")).rstrip()
    seen = {f"seen_{x}": m.short() if m.contaminated else "" for x, m in zip("ab", found, strict=True)}
    return {**test, **seen, "warning": warning, "verdict": f"{shown} {warning}".rstrip()}


def held_view(
    arms: Sequence[Arm], marks: Sequence[Sequence[Mark]], items: Sequence[str],
    shown: Sequence[tuple[Arm, list[Result]]],
) -> list[dict[str, Any]]:  # fmt: skip
    """Return what the training data of each run holds of the questions; seeds of one mixture together.

    `name`, `label`, `models` (the checkpoints' places in `shown`), `items`: null where not known one by one, else the
    question's place -> [dose, rows, places, texts].
    """
    place = {item: i for i, item in enumerate(items)}
    out: list[dict[str, Any]] = []
    for arm, of_arm in zip(arms, marks, strict=True):
        mine: list[dict[str, Any]] = []
        for number, (run, mark) in enumerate(zip(arm.runs, of_arm, strict=True), 1):
            held = None if mark.held is None else {
                str(place[name]): [h.dose, h.rows, [visible(p) for p in h.places], [visible(t) for t in h.texts]]
                for name, h in mark.held.items() if name in place
            }  # fmt: skip
            models = [i for i, (a, r) in enumerate(shown) if a is arm and r is run]
            same = next((view for view in mine if view["items"] == held), None)
            if same is None:
                mine.append({"seeds": [number], "label": mark.short(), "models": models, "items": held})
            else:
                same["seeds"].append(number)
                same["models"] += models
        for view in mine:
            seeds = ", ".join(f"#{n}" for n in view.pop("seeds"))
            out.append({"name": visible(arm.name) + (f" {seeds}" if len(mine) > 1 else ""), **view})
    return out
