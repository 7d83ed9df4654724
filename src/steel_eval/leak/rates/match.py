"""Which measured error rates speak of a checkpoint: those of a study on models of its kind, or none.

Calibrations come from `rates.json`, which `study` writes, and from `calibrated.json` beside this file, which ships the
regimes that were measured so far. To renew it: `python -m steel_eval.leak.rates.match STUDY... > calibrated.json`.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from steel_data.errors import InputError
from steel_data.shapes import misfits, without_nulls
from steel_eval.leak.rates.regime import Regime, in_words, nearest
from steel_eval.leak.rates.table import AUC, BENCHMARKS, HITS, ITEMS, SIDES, beside, percent, regime_from

SHIPPED = Path(__file__).with_name("calibrated.json")
Calibration = dict[str, Any]  # what `calibrate` returns
_RATE = {
    "detector": str, "what": str, "of": str, "n": int, "value": float, "low": float, "high": float, "dose": int,
    "form": str, "controls": str, "unseen": int, "by_seed": [float],
}  # fmt: skip
_SHAPE = {
    "regime": {
        "parameters": int, "architecture": str, "start": str, "method": str, "loss": str, "epochs": float,
        "learning_rate": float, "injected_share": float, "exposures": int, "forms": [str], "asked_as": str,
        "compared_with": str,
    },
    "rates": [_RATE],
}  # fmt: skip
BASE = "base"  # what scores were compared with, where a calibration does not say it
_WORD = "not calibrated here"
_COST = (
    "A calibration would cost a `study` on this recipe: six trainings like this one (three seeds, clean and injected) "
    "and a pass over some 1,300 items for each, of which 300 in all orders of their options."
)


@dataclass(frozen=True)
class Match:
    """A checkpoint's regime and the calibration that fits it (None: none does), or the nearest and what differs."""

    regime: Regime
    calibration: Calibration | None
    nearest: Regime | None
    differences: list[str]

    def data(self) -> dict[str, Any]:
        """Return it for leak.json."""
        return {
            "regime": self.regime.data(), "calibrated": self.calibration is not None, "differences": self.differences,
            "nearest": None if self.nearest is None else self.nearest.data(), "measured": self.calibration,
        }  # fmt: skip


def load_calibrations(places: Sequence[Path] = ()) -> list[Calibration]:
    """Return the calibrations of files or study folders, then the shipped ones. Raises InputError for other places."""
    return [found for place in places for found in _read(place)] + _flat(orjson.loads(SHIPPED.read_bytes()))


def _read(place: Path) -> list[Calibration]:
    file = place / "rates.json" if place.is_dir() else place
    if not file.is_file():
        raise InputError(f"{file}: not there. Fix: a folder that `study` wrote, or its rates.json.")
    try:
        found = _flat(orjson.loads(file.read_bytes()))
    except orjson.JSONDecodeError as error:
        raise InputError(f"{file}: no JSON: {error}. Fix: the rates.json of a study.") from error
    if not found:
        raise InputError(f"{file}: holds no error rates. Fix: the rates.json of a study.")
    _refuse_misfits(file, found, ())
    if any("what" not in line for c in found for line in c["rates"]):
        raise InputError(
            f"{file}: written by an older steel. Fix: run `steel study` on its recipe again, which "
            "trains nothing twice."
        )
    _refuse_misfits(file, found, ("detector", "n", "value"))
    return found


def _refuse_misfits(file: Path, found: Sequence[Calibration], needed: Sequence[str]) -> None:
    for calibration in found:
        shown = {key: without_nulls(calibration[key]) for key in _SHAPE}
        for fault in misfits("", shown, _SHAPE, needed):
            raise InputError(f"{file}: {fault}. Fix: the rates.json of a study.")


def _flat(data: Any) -> list[Calibration]:
    """Return the calibrations in a file: one, a list of them, or a table of them by name."""
    if isinstance(data, dict) and "rates" in data and "regime" in data:
        return [data]
    inner = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return [found for part in inner if isinstance(part, dict | list) for found in _flat(part)]


def match(regime: Regime, asked_as: str, calibrations: Sequence[Calibration], compared_with: str = BASE) -> Match:
    """Return what fits a regime. `asked_as`: the form of the text; scores of another form have other error rates.

    `compared_with`: BASE or reference runs; their rates are others.
    """
    calibrations = [c for c in calibrations if c["regime"].get("compared_with", BASE) == compared_with]
    alike = [c for c in calibrations if c["regime"].get("asked_as", asked_as) == asked_as]
    chosen = alike or list(calibrations)
    found = nearest(regime, [regime_from(c["regime"]) for c in chosen])
    if found is None:
        return Match(regime, None, None, [])
    best, differences = chosen[found[0]], found[1]
    if not alike:
        differences = [*differences, f"asked in the form {asked_as}, not {best['regime']['asked_as']}"]
    return Match(regime, None if differences else best, regime_from(best["regime"]), differences)


def strength(found: Match) -> float | None:
    """Return how many standard deviations a seen item gains at the lowest dose, by the best detector; None: unknown.

    From its AUC: sqrt(2) times the normal quantile.
    """
    from scipy.stats import norm

    if found.calibration is None:
        return None
    areas = [r for r in found.calibration["rates"] if r["what"] == AUC and r.get("form") == "all" and "dose" in r]
    lowest = min((r["dose"] for r in areas), default=None)
    best = max((r["value"] for r in areas if r["dose"] == lowest), default=0.5)
    return float(max(0.05, 2**0.5 * norm.ppf(min(best, 0.999))))


def words(found: Match) -> list[str]:
    """Return in lines what is known of the detectors' errors on this checkpoint."""
    start = f"Error rates of these detectors on a model of this kind ({in_words(found.regime)}): "
    if found.calibration is not None:
        there = regime_from(found.calibration["regime"])
        unknown = there.injected_share is not None and found.regime.injected_share is None
        return [
            start + f"measured on {in_words(there)}",
            *["How many of this model's tokens are items is not known; the rates are of such a share"] * unknown,
            *_rate_words(found.calibration),
        ]  # fmt: skip
    if found.nearest is None:
        return [f"{start}{_WORD} (docs/contamination.md). {_COST}"]
    why = f"{in_words(found.nearest)}, differs: {'; '.join(found.differences)}."
    return [f"{start}{_WORD} (docs/contamination.md). The nearest that was measured, {why}", _COST]


def context_words(found: Match, samples: int) -> list[str]:
    """Return in a line what is not known of CoDeC with so many `samples`, none where it is known or was not asked."""
    known = found.calibration is not None and any("codec" in r["detector"] for r in found.calibration["rates"])
    if not samples or known:
        return []
    return [
        f"codec, {samples} of the subject's items before each: {_WORD}, and no part of the verdict. What it showed on "
        "runs of which one knows what they saw: docs/results/contamination.md."
    ]


def _rate_words(calibration: Calibration) -> list[str]:
    """Return a line for each detector."""
    five = next(iter(HITS))
    hits: dict[str, list[str]] = {}
    rows = beside(calibration["rates"], ("detector", "dose", "form"), (AUC, five))  # an AUC is always there
    for (detector, dose, form), cells in rows.items():
        if form == "all":
            hits.setdefault(detector, []).append(f"{percent(cells.get(five))} of items seen {dose}x")
    alarms = beside(calibration["rates"], ("detector", "of", "controls"), (ITEMS, BENCHMARKS))
    out = []
    for detector, words in hits.items():
        accused = []
        for what, name in ((ITEMS, "items"), (BENCHMARKS, "benchmarks")):
            rates = {side: alarms.get((detector, "unseen", side), {}).get(what) for side in reversed(SIDES)}
            said = [f"{percent(rate, 1)} with controls of {side}" for side, rate in rates.items() if rate]
            accused.append(f"{name} accused falsely: {', '.join(said) or 'too few to say'}")
        out.append(f"{detector}: at 5 % false alarms finds {', '.join(words)}; {'; '.join(accused)}")
    forms = ", ".join(calibration["regime"].get("forms", []))
    return [*out, f"(times seen: copies in the mixture; injected as {forms}; n, forms and seeds are in leak.json)"]


def main(places: Sequence[str]) -> None:
    """Print the calibrations of studies as one table, as `calibrated.json` ships it: in four digits, a rate a line."""
    read = [calibration for place in places for calibration in _read(Path(place))]
    found = [{key: part if key == "regime" else _short(part) for key, part in c.items()} for c in read]
    sys.stdout.write(orjson.dumps(found).decode().replace('{"detector"', '\n{"detector"') + "\n")


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _short(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_short(v) for v in value]
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    main(sys.argv[1:])
