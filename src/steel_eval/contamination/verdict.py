"""The verdict on top of `leak`, `report` and `study`: four statements in plain words, each with its error rate."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from steel_data.chinese import say
from steel_data.row.display import console, one_line

Seen = Literal["yes", "no", "cannot-tell"]
HEAD = "Verdict"
OVERLAP_ERRORS = 4 / 2832  # of the items that nobody put there, those that overlap names (docs/contamination.md)


@dataclass(frozen=True)
class Inflation:
    """By how many percentage points a score is too high, with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is known of one benchmark and one model.

    `mixture`: what the mixture proves; `seen` and, in words, `finding`; `false_alarm_rate`: how often a "yes" would be
    said of a model that saw nothing (None: nobody knows); `inflation` (`no_inflation`: why there is none);
    `smallest_detectable`: the smallest inflation, in points, that four of five such tests would find (None: not known),
    and `limits`: what could not have been seen, in words.
    """

    name: str
    mixture: str
    seen: Seen
    finding: str
    false_alarm_rate: float | None
    inflation: Inflation | None
    no_inflation: str = ""
    smallest_detectable: float | None = None
    limits: str = ""

    def lines(self) -> list[str]:
        """Return the four lines, without the name."""
        words = {"yes": "yes", "no": "no", "cannot-tell": "cannot tell"}
        rate = "" if self.false_alarm_rate is None else f" (false alarms: {_rate(self.false_alarm_rate)})"
        return [
            f"mixture: {self.mixture}",
            f"seen: {words[self.seen]}{rate}. {self.finding}",
            f"inflation: {self._inflation()}",
            f"could not have been seen: {self.limits}",
        ]

    def _inflation(self) -> str:
        if self.inflation is None:
            return self.no_inflation or "not known"
        i = self.inflation
        return f"{i.value:+.1f} points (95 % interval {i.low:+.1f} to {i.high:+.1f})" + (
            f", {self.no_inflation}" if self.no_inflation else ""
        )

    def data(self) -> dict[str, Any]:
        """Return it for JSON: `inflation_points` and `smallest_detectable` are percentage points."""
        return {
            "name": self.name, "seen": self.seen, "false_alarm_rate": self.false_alarm_rate,
            "inflation_points": None if self.inflation is None else dict(vars(self.inflation)),
            "smallest_detectable": self.smallest_detectable, "lines": self.lines(),
        }  # fmt: skip


def _rate(rate: float) -> str:
    return "none possible" if rate == 0 else f"at most {100 * rate:.2g} in 100"


def found_by_most(low: float, high: float) -> float:
    """Return the true difference that 80 % of tests would find, from the 95 % interval of one: (1.96 + 0.84) / 1.96."""
    return (high - low) / 2 * 1.43


def block(verdicts: Iterable[Verdict]) -> list[str]:
    """Return the lines of the whole block, its head first."""
    return [HEAD, *(line for v in verdicts for line in (f"  {v.name}", *(f"    {text}" for text in v.lines())))]


def print_block(verdicts: Iterable[Verdict]) -> None:
    """Print the whole block in the language that is chosen, before anything else."""
    out = console()
    for line in block(verdicts):
        words = line.lstrip()
        shown = line[: len(line) - len(words)] + one_line(say(words))
        out.print(shown, markup=False, emoji=False, highlight=False, soft_wrap=True)


def joint(verdicts: Sequence[Verdict], sizes: Sequence[int]) -> dict[str, Any]:
    """Return one verdict over several benchmarks for JSON; `sizes`: their items, which weigh the inflation.

    The single verdicts share one rate of false alarms between them, so that it is the joint one's too.
    """
    said = {v.seen for v in verdicts}
    seen = "yes" if "yes" in said else "no" if said == {"no"} else "cannot-tell"
    inflation = None
    if all(v.inflation for v in verdicts):
        share = [n / max(1, sum(sizes)) for n in sizes]
        each = [v.inflation for v in verdicts if v.inflation]
        value = sum(s * i.value for s, i in zip(share, each, strict=True))
        below, above = (
            sum((s * d) ** 2 for s, d in zip(share, sides, strict=True)) ** 0.5
            for sides in ([i.value - i.low for i in each], [i.high - i.value for i in each])
        )
        inflation = {"value": value, "low": value - below, "high": value + above}
    rates = [v.false_alarm_rate for v in verdicts]
    detectable = [v.smallest_detectable for v in verdicts]
    return {
        "seen": seen, "false_alarm_rate": None if None in rates else min(1.0, sum(r for r in rates if r is not None)),
        "inflation_points": inflation,
        "smallest_detectable": None if None in detectable else max(d for d in detectable if d is not None),
    }  # fmt: skip
