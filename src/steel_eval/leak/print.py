"""What `leak` prints: one table a task, and in words what it can and cannot say."""

from collections.abc import Sequence
from typing import Any

from steel_data.row.display import console, plain_table, print_table, told_line
from steel_eval.leak.detectors.reference import smallest_flaggable
from steel_eval.leak.judge import Finding
from steel_eval.leak.measure import IN_CONTEXT, MEASURES
from steel_eval.leak.reference_runs import FAMILY, family_name

_BESIDE = {"model / base": "model / runs", "p": "p, one-sided"}  # headings beside reference runs
_COLUMNS = ("detector", "passes", "tested / controls", "model / base", "excess", "95 % interval", "p", "AUC", "flagged")


def print_leak(about: dict[str, Any], findings: Sequence[Finding], error_rates: Sequence[str]) -> None:
    """Print the findings of one task; `about` as in leak.json; `error_rates`: what is known of them, in lines."""
    out = console()
    runs = about["compared_with"] == FAMILY
    passes = {name: m.passes for m in (*MEASURES, *IN_CONTEXT) for name in (m.name, family_name(m.name))}
    table = plain_table(*(_BESIDE.get(c, c) if runs else c for c in _COLUMNS))
    if about["in_mixture"] is not None:
        table.add_row("train-side overlap", "0", str(about["of"]), *["-"] * 5, str(about["in_mixture"]))
    for f in findings:
        auc = "-" if f.rates is None else f"{f.rates.auc:.2f} ({f.rates.auc_low:.2f}-{f.rates.auc_high:.2f})"
        table.add_row(
            f.measure, passes[f.measure], f"{f.items} / {f.controls}", f"{f.model:.2f} / {f.base:.2f}",
            f"{f.excess:+.2f}", f"{f.low:+.2f} .. {f.high:+.2f}", f"{f.p:.2g}", auc, str(f.flags),
        )  # fmt: skip
    print_table(table, out)
    whose = _whose(about)
    before, sides = ("the mean of the reference runs", "one-sided") if runs else ("base", "two-sided")
    lines = [
        f"{about['task']}, form {about['form']}. Controls: {about['controls']}. Excess: the tested items' change from "
        f"{before} to model minus the controls'; p by randomisation within subject, {sides}; AUC and flags inside "
        "subjects, flagged at 5 % false discoveries.",
        *_set_words(about["set_test"]),
        f"loss gap test - reference: {about['loss_gap']:+.3f} nats a token, of {whose} {about['loss_gap_base']:+.3f}.",
        *_train_gap(about),
        f"cost for each model: {about['pass_tokens']:,} tokens in single passes, {about['trie_tokens']:,} in tries"
        + (f", {about['context_tokens']:,} in context." if about["context_tokens"] else "."),
        *about["notes"],
        *_limits(findings),
        *error_rates,
    ]
    for line in lines:
        told_line(line, out=out)


def _whose(about: dict[str, Any]) -> str:
    return "those runs" if about["compared_with"] == FAMILY else "the base"


def _train_gap(about: dict[str, Any]) -> list[str]:
    """Return the gap to the training rows, where there is a mixture."""
    if about["loss_gap_train"] is None:
        return []
    higher = about["loss_gap_train"] > about["loss_gap_train_base"]
    what = "the mixture was learnt more than the test" if higher else "the test fell no less than the mixture"
    return [
        f"loss gap test - train ({about['train_rows']} ordinary rows): {about['loss_gap_train']:+.3f} nats a token, of "
        f"{_whose(about)} {about['loss_gap_train_base']:+.3f}. {'Higher' if higher else 'Lower'} than there: {what}."
    ]


def _set_words(test: dict[str, Any] | None) -> list[str]:
    """Return the set-level test in words."""
    if test is None:
        return []
    return [
        f"all detectors together: {test['value']:+.2f} standard deviations "
        f"({test['low']:+.2f} .. {test['high']:+.2f}); combined on one half and tested on the other, both ways: "
        f"p {test['p']:.2g}, one-sided."
    ]


def _limits(findings: Sequence[Finding]) -> list[str]:
    """Return what the flags cannot show with so few controls."""
    first = next((f for f in findings), None)
    if first is None:
        return ["no score could be compared: no subject holds both tested items and controls."]
    need = smallest_flaggable(first.items, first.controls)
    if need <= 1:
        return []
    return [
        f"flagged: with {first.controls} controls, {min(need, first.items)} items at least must beat every control "
        + ("before any is flagged." if need <= first.items else "- more than there are: none can be flagged.")
    ]
