"""The table of rates for reading: for which model, how well seen items are told, how often others are accused."""

from collections.abc import Iterator
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from steel_data.row.display import one_line
from steel_eval.leak.rates.regime import Regime, in_words
from steel_eval.leak.rates.table import AUC, BENCHMARKS, FLAGGED, HITS, ITEMS, RAISED, Row, beside, percent

_WIDTH = 150  # of the widest table: a pipe has no width of its own
_HITS = ("detector", "copies", "form", "seen / unseen", "AUC", "AUC by seed", "hits at 5 % alarms", "hits at 1 %")
_WORDS = ("detector", "form", "of", "controls")  # the columns that hold no numbers
_ALARMS = ("detector", "of", "controls", "items flagged", "n", "benchmarks at p <= 0.05", "n", "raised")


def print_calibration(result: dict[str, Any]) -> None:
    """Print what `calibrate` returned."""
    out = Console(width=max(Console().width, _WIDTH))

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
        table = Table(box=box.SIMPLE)
        for name in names:
            table.add_column(name, justify="left" if name in _WORDS else "right", no_wrap=True)
        for row in rows:
            table.add_row(*(one_line(cell).replace("[", r"\[") for cell in row))
        out.print(table)
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
