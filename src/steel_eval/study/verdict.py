"""The verdict of a study: did seeing the items raise the score on them, and by how much the whole?"""

from collections.abc import Sequence
from typing import Any

from steel_eval.contamination.verdict import Inflation, Verdict, found_by_most

LEVEL = 0.05


def study_verdicts(results: dict[str, Any]) -> list[Verdict]:
    """Return a verdict for each injected task of `study.json`'s content: what the injected arm shows of the leak."""
    return [_verdict(name, entry) for name, entry in results["tasks"].items() if entry["doses"]]


def is_shown(effect: dict[str, Any], tests: int) -> bool:
    """Whether one effect of so many that are tested is a gain, at LEVEL for all of them together (Bonferroni)."""
    return bool(effect["p"] <= LEVEL / tests and effect["effect"] > 0)


def _verdict(name: str, entry: dict[str, Any]) -> Verdict:
    doses = [e for e in entry["doses"] if e["dose"] is not None]
    items, strongest = sum(e["items"] for e in doses), max(doses, key=lambda e: e["dose"])
    tests = len(doses)
    best = min(doses, key=lambda e: e["p"])
    shown = is_shown(best, tests)
    clean = entry["clean_scores"]
    half = found_by_most(strongest["low"], strongest["high"])
    of_runs = "against a clean run" if clean[0]["runs"] else "against these runs' score on questions they never saw"
    seeds = "" if strongest["seeds_counted"] else " One seed an arm: another may differ by many points."
    words = (
        f"{best['dose']} copies raise the score on seen items by {100 * best['effect']:+.1f} points over unseen ones "
        f"(p {best['p']:.2g}, the smallest of {tests}).{seeds}"
    )
    return Verdict(
        name=f"{name}, injected arm",
        mixture=f"holds {items:,} items, put there by the draw; the clean arm's holds none",
        seen="yes" if shown else "cannot-tell",
        finding=words if shown else f"Its score does not show that the items were seen: {words}",
        false_alarm_rate=LEVEL if shown else None, inflation=_mean_inflation(clean), no_inflation=of_runs,
        smallest_detectable=100 * half,
        limits=f"gains of seen items at {strongest['dose']} copies below {100 * half:.1f} points (four of five as "
        "large would be)",
    )  # fmt: skip


def _mean_inflation(clean: Sequence[dict[str, Any]]) -> Inflation:
    """Return the mean over runs of what is reported less the clean score, in points."""
    value, low, high = (
        100 * sum(c["reported"] - c[key] for c in clean) / len(clean) for key in ("clean", "high", "low")
    )
    return Inflation(value, low, high)


def pool_verdicts(results: dict[str, Any]) -> list[Verdict]:
    """Return a verdict for each injected task of a crossed pool: do runs that saw an item score higher on it?"""
    return [_of_pool(name, entry) for name, entry in results["presets"][results["preset"]].items()]


def _of_pool(name: str, entry: dict[str, Any]) -> Verdict:
    gains, clean = entry["gains"], entry["clean_scores"]
    best, strongest = min(gains, key=lambda g: g["p"]), gains[-1]
    shown = best["p"] <= LEVEL / len(gains)
    words = (
        f"{best['dose']} copies raise the score by {100 * best['gain']:+.1f} points over runs that did not see the "
        f"item (one-sided p {best['p']:.2g}, the smallest of {len(gains)})."
    )
    smallest = 100 * strongest["detectable"]
    known = bool(clean and clean[0]["runs"])
    against = (
        "the mean run against a clean run" if known else "the mean run against its score on questions it never saw"
    )
    return Verdict(
        name=f"{name}, crossed pool",
        mixture=f"{strongest['runs']} runs and more hold items of their own, put there by the draw",
        seen="yes" if shown else "cannot-tell",
        finding=words if shown else f"Its score does not show that items were seen: {words}",
        false_alarm_rate=LEVEL if shown else None, inflation=_mean_inflation(clean) if clean else None,
        no_inflation=against if clean else "too few unseen items for a clean score",
        smallest_detectable=smallest,
        limits=f"gains of seen items at {strongest['dose']} copies below {smallest:.1f} points (four of five as large "
        "would be)",
    )  # fmt: skip
