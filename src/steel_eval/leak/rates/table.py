"""The table of rates: a line for each share that was measured of a detector, whatever it is a share of.

A line is one `Rate`; rates.json, calibrated.json and leak.json hold them as objects, without the fields that a line
does not have.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

AUC, ALONE = "AUC", "AUC alone"
HITS = {"hits at 5 %": 0.05, "hits at 1 %": 0.01}  # what is measured -> the share of unseen items above the cut
ITEMS, BENCHMARKS, RAISED = "items accused", "benchmarks accused", "benchmarks raised"
FLAGGED = "flagged"
SIDES = ("other subjects", "same subjects")  # where controls of what none saw are from
Row = dict[str, Any]  # a Rate as it stands in a file


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A share (or area) with its 95 % interval.

    `detector`: its name, or a published rule. `what`: `AUC` of the change since the reference, `AUC alone` of the
    model's own score; `hits at 5 %` (1 %): seen items above the score that at most so many unseen ones exceed; `items
    accused`: rank p <= 5 % among items that none saw; `benchmarks accused`: p <= 5 % of pseudo-benchmarks that none
    saw, `benchmarks raised`: those of them in the direction of a leak; `flagged`: by a published rule.

    `of`: items "seen" or "unseen", all items of "nulls" (pairs of which neither saw any), or unseen ones under the
    "reference". `dose`, `form`: of the seen ("all": all forms). `controls`: whom they are told from: "unseen" items,
    items of the "same subjects" or "other subjects", of "the other dose" (the whole benchmark of nulls: what the study
    would inject against what it would not). `n`: items of a seed for `AUC` and hits, items over all seeds for
    accusations of items, tests for those of benchmarks. `unseen`: how many these were; `subjects`: pseudo-benchmarks
    of one seed. An interval may be None in files of an older steel.
    """

    detector: str
    what: str
    of: str
    n: int
    value: float
    low: float | None = None
    high: float | None = None
    dose: int | None = None
    form: str | None = None
    controls: str | None = None
    unseen: int | None = None
    subjects: int | None = None
    by_seed: list[float] = field(default_factory=list)

    def data(self) -> Row:
        """Return it for JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None and value != []}


def beside(rates: Iterable[Row], keys: Sequence[str], what: Iterable[str]) -> dict[tuple[Any, ...], dict[str, Row]]:
    """Put rates beside one another that differ in `what`: values of `keys` -> what -> line, in the table's order."""
    wanted = set(what)
    found: dict[tuple[Any, ...], dict[str, Row]] = {}
    for line in rates:
        if line["what"] in wanted:
            found.setdefault(tuple(line.get(key) for key in keys), {})[line["what"]] = line
    return found


def percent(line: Row | None, digits: int = 0) -> str:
    """Return a rate with its interval in per cent, "-" for None."""
    if line is None:
        return "-"
    value, low, high = (f"{100 * line[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} % ({low}-{high})"
