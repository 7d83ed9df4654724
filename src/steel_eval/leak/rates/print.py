"""Measured error rates as tables: for which model, how well seen items are told, how often others are accused."""

from collections.abc import Iterator
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from steel_data.row.display import one_line
from steel_eval.leak.rates.published import flag_words
from steel_eval.leak.rates.regime import Regime, in_words

_WIDTH = 150  # of the widest table: a pipe has no width of its own
_HITS = ("detector", "copies", "form", "seen / unseen", "AUC", "AUC by seed", "hits at 5 % alarms", "hits at 1 %")
_ALARMS = ("detector", "of", "controls", "items flagged", "n", "benchmarks at p <= 0.05", "n", "raised")


def print_calibration(result: dict[str, Any]) -> None:
    """Print what `calibrate` returned."""
    out = Console(width=max(Console().width, _WIDTH))
    regime = regime_from(result["regime"])
    for line in (
        f"measured on: {in_words(regime)}; injected as {', '.join(result['regime']['forms'])}, asked in the form "
        f"{result['regime']['asked_as']}; seeds {', '.join(map(str, result['seeds']))}; {result['items']:,} items",
        *_cost_words(result["cost"]),
    ):
        out.print(one_line(line), markup=False, highlight=False, soft_wrap=True)
    out.print(_table(_HITS, _hits_rows(result["rates"]), left=3))
    out.print(_table(_ALARMS, _alarm_rows(result), left=3))
    for line in flag_words(result["published"]):
        out.print(one_line(line), markup=False, highlight=False, soft_wrap=True)
    words = (
        "AUC and hits: mean over seeds, 95 % interval over items and seeds. hits: share of seen items above the score "
    )
    words += "that at most 5 % (1 %) of unseen items exceed; - where there are too few unseen items (20, 1,000)."
    out.print(words, markup=False, highlight=False, soft_wrap=True)


def regime_from(data: dict[str, Any]) -> Regime:
    """Return the regime that stands in a calibration."""
    return Regime(**{name: data.get(name) for name in Regime.__dataclass_fields__})


def _cost_words(cost: dict[str, Any]) -> list[str]:
    words = [f"cost a checkpoint: {cost['pass_tokens']:,} tokens in single passes of {cost['items']:,} items"]
    if cost["ratio"] is not None:
        words.append(
            f"all orders of {cost['permuted']:,} items: {cost['trie_tokens']:,} tokens, {cost['ratio']:.1f} times a "
            "single pass of them"
        )
    return words


def _table(columns: tuple[str, ...], rows: Iterator[list[str]], left: int) -> Table:
    table = Table(box=box.SIMPLE)
    for k, name in enumerate(columns):
        table.add_column(name, justify="left" if k < left and name != "copies" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(one_line(cell).replace("[", r"\[") for cell in row))
    return table


def _hits_rows(rates: list[dict[str, Any]]) -> Iterator[list[str]]:
    forms = {r["form"] for r in rates} - {"all"}
    for r in rates:
        if r["form"] != "all" and len(forms) == 1:
            continue  # the same as "all"
        seeds = r["auc"]["by_seed"]
        by_seed = f"{min(seeds):.2f}-{max(seeds):.2f}" if len(seeds) > 1 else "one seed"
        yield [
            r["detector"], str(r["dose"]), r["form"], f"{r['seen']:,} / {r['unseen']:,}",
            f"{r['auc']['value']:.2f} ({r['auc']['low']:.2f}-{r['auc']['high']:.2f})", by_seed,
            hits_words(r["hits_5"]), hits_words(r["hits_1"]),
        ]  # fmt: skip


def hits_words(estimate: dict[str, Any] | None) -> str:
    """Return a share with its interval in per cent, "-" for None."""
    if estimate is None:
        return "-"
    return f"{100 * estimate['value']:.0f} % ({100 * estimate['low']:.0f}-{100 * estimate['high']:.0f})"


def _alarm_rows(result: dict[str, Any]) -> Iterator[list[str]]:
    def key(row: dict[str, Any]) -> tuple[str, str, str]:
        return row["detector"], row["of"], row["controls"]

    of_items = {key(r): r for r in result["item_false_positives"]}
    of_sets = {key(r): r for r in result["dataset_false_positives"]}
    order = {name: k for k, name in enumerate(dict.fromkeys(r["detector"] for r in result["rates"]))}
    for k in sorted({*of_items, *of_sets}, key=lambda k: (order.get(k[0], 99), k[1] == "nulls", k[2])):
        item, whole = of_items.get(k), of_sets.get(k)
        yield [
            *k, *([percent(item), f"{item['tested']:,}"] if item else ["-", "-"]),
            *([percent(whole), f"{whole['tests']:,}", f"{100 * whole['raised']:.1f} %"] if whole else ["-", "-", "-"]),
        ]  # fmt: skip


def percent(row: dict[str, Any]) -> str:
    """Return a rate with its interval in per cent."""
    return f"{100 * row['rate']:.1f} % ({100 * row['low']:.1f}-{100 * row['high']:.1f})"
