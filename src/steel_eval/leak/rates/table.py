"""The table of rates: a line for each share that was measured of a detector, whatever it is of; and its printing.

A line is one `Rate`; rates.json, calibrated.json and leak.json hold them as objects, without the fields that a line
does not have.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from steel_data.row.display import console, one_line, plain_table, print_table
from steel_eval.leak.rates.regime import Regime, in_words

AUC, ALONE = "AUC", "AUC alone"
HITS = {"hits at 5 %": 0.05, "hits at 1 %": 0.01}  # what is measured -> the share of unseen items above the cut
ITEMS, BENCHMARKS, RAISED = "items accused", "benchmarks accused", "benchmarks raised"
FLAGGED = "flagged"
SIDES = ("other subjects", "same subjects")  # where controls of what none saw are from
Row = dict[str, Any]  # a Rate as it stands in a file
_HITS = ("detector", "copies", "form", "seen / unseen", "AUC", "AUC by seed", "hits at 5 % alarms", "hits at 1 %")
_WORDS = ("detector", "form", "of", "controls")  # the columns that hold no numbers
_ALARMS = ("detector", "of", "controls", "items flagged", "n", "benchmarks at p <= 0.05", "n", "raised")


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
    """Return a rate with its interval, where it has one, in per cent; "-" for None."""
    if line is None:
        return "-"
    if line.get("low") is None or line.get("high") is None:
        return f"{100 * line['value']:.{digits}f} %"
    value, low, high = (f"{100 * line[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} % ({low}-{high})"


def print_calibration(result: dict[str, Any]) -> None:
    """Print what `calibrate` returned."""
    out = console()

    def say(line: str) -> None:
        out.print(one_line(line), markup=False, highlight=False, soft_wrap=True)

    regime = result["regime"]
    say(
        f"measured on: {in_words(regime_from(regime))}; injected as {', '.join(regime['forms'])}, asked in the form "
        f"{regime['asked_as']}; seeds {', '.join(map(str, result['seeds']))}; {result['items']:,} items"
    )
    for line in _cost_words(result["cost"]):
        say(line)
    for names, rows in ((_HITS, _hits_rows(result["rates"])), (_ALARMS, _alarm_rows(result["rates"]))):
        table = plain_table(*names)
        for name, column in zip(names, table.columns, strict=True):
            column.justify = "left" if name in _WORDS else "right"
        for row in rows:
            table.add_row(*(one_line(cell).replace("[", r"\[") for cell in row))
        print_table(table, out)
    for line in _flag_words(result["rates"]):
        say(line)
    say(
        "AUC and hits: mean over seeds, 95 % interval over items and seeds. hits: share of seen items above the score "
        "that at most 5 % (1 %) of unseen items exceed; - where there are too few unseen items (20, 1,000)."
    )


def regime_from(data: dict[str, Any]) -> Regime:
    """Return the regime that stands in a calibration."""
    return Regime(**{name: data.get(name) for name in Regime.__dataclass_fields__})


def _cost_words(cost: dict[str, Any]) -> Iterator[str]:
    yield f"cost a checkpoint: {cost['pass_tokens']:,} tokens in single passes of {cost['items']:,} items"
    if cost["ratio"] is not None:
        yield (
            f"all orders of {cost['permuted']:,} items: {cost['trie_tokens']:,} tokens, {cost['ratio']:.1f} times a "
            "single pass of them"
        )
    if cost.get("context_tokens"):  # not in files of an older steel
        yield f"all items behind others: {cost['context_tokens']:,} tokens"


def _hits_rows(rates: list[Row]) -> Iterator[list[str]]:
    rows = beside(rates, ("detector", "dose", "form"), (AUC, *HITS))
    forms = {form for _, _, form in rows} - {"all"}
    for (detector, dose, form), cells in rows.items():
        if form != "all" and len(forms) == 1:
            continue  # the same as "all"
        auc = cells[AUC]
        seeds = auc["by_seed"]
        by_seed = f"{min(seeds):.2f}-{max(seeds):.2f}" if len(seeds) > 1 else "one seed"
        yield [
            detector, str(dose), form, f"{auc['n']:,} / {auc['unseen']:,}",
            f"{auc['value']:.2f} ({auc['low']:.2f}-{auc['high']:.2f})", by_seed,
            *(percent(cells.get(what)) for what in HITS),
        ]  # fmt: skip


def _alarm_rows(rates: list[Row]) -> Iterator[list[str]]:
    for key, cells in beside(rates, ("detector", "of", "controls"), (ITEMS, BENCHMARKS, RAISED)).items():
        shown = []
        for what in (ITEMS, BENCHMARKS):
            rate = cells.get(what)
            shown += [percent(rate, 1), f"{rate['n']:,}"] if rate else ["-", "-"]
        raised = cells.get(RAISED)
        yield [*key, *shown, f"{100 * raised['value']:.1f} %" if raised else "-"]


def _flag_words(rates: list[Row]) -> Iterator[str]:
    """Yield a line for each published rule: what it flags of unseen items, of seen ones and under the reference."""
    said: dict[str, list[str]] = {}
    for (rule, of, dose), cells in beside(rates, ("detector", "of", "dose"), (FLAGGED,)).items():
        rate = cells[FLAGGED]
        items = f"{rate['n']:,} {f'items seen {dose}x' if of == 'seen' else 'unseen items'}"
        under = " under the reference" if of == "reference" else ""
        said.setdefault(rule, []).append(f"{percent(rate)} of {items}{under}")
    for rule, parts in said.items():
        yield f"published rule, {rule}: flags {', '.join(parts)}"
