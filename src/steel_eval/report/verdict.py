"""The verdict on one run's score in a report, from its label (apart: the page and the labels know nothing of it).

A report asks no model: what it knows is what the mixture holds and how the run answered what it did not see.
"""

from steel_eval.contamination.label import Mark
from steel_eval.contamination.verdict import Inflation, Verdict

OVERLAP = 4 / 2832  # items that overlap names by error (docs/contamination.md)


def mark_verdict(mark: Mark, name: str, reported: float | None) -> Verdict:
    """Return what is known of one run (`name`) on one task; `reported`: its accuracy, a share."""
    held = f"holds {mark.seen:,} of {mark.n:,} items" if mark.own else ""
    if mark.contaminated:
        seen, rate = "yes", 0.0 if mark.declared or mark.inherited else min(1.0, OVERLAP * mark.n)
        finding, mixture = f"{mark.sentence()}.", held or mark.short()
    elif mark.declared is None or mark.looked:
        seen, rate = "cannot-tell", None
        finding = f"{mark.short()}; `leak` asks the model itself."
        mixture = mark.caveat() or mark.short()
    else:
        seen, rate = "no", min(1.0, OVERLAP * mark.n)
        finding = "None declared, none found, verbatim or edited; its base may have seen them (`leak` asks the model)."
        mixture = f"holds none of {mark.n:,} items"
    inflation = why = None
    if mark.contaminated and mark.estimates and reported is not None:
        e = mark.estimates[-1]
        inflation = Inflation(*(100 * (reported - v) for v in (e.clean, e.high, e.low)))
        why = "against a clean run" if e.runs else "against this run's score on questions it never saw"
    elif mark.contaminated:
        why = mark.no_estimate or "not known: which questions it saw is not known"
    smallest = None if inflation is None else (inflation.high - inflation.low) / 2 * 1.43
    return Verdict(
        name=f"{name}, {mark.task}", mixture=mixture, seen=seen, finding=finding,  # type: ignore[arg-type]
        false_alarm_rate=rate, inflation=inflation,
        no_inflation=why or ("none to expect" if seen == "no" else "not known"),
        smallest_detectable=smallest,
        limits=(
            f"an inflation of fewer than {smallest:.1f} points (four of five as large would be)" if smallest
            else "paraphrases and translations, and what an earlier training held"
        ),
    )  # fmt: skip
