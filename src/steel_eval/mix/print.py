"""What `mix` prints: the verdict first, then gain, effects and what is written, in 80 columns."""

from pathlib import Path
from typing import Any

from steel_data.chinese import say
from steel_data.row.display import command, one_line, plain_table, print_line, print_next, print_table


def print_surface(surface: dict[str, Any], folder: Path, confirm: int = 0) -> None:
    """Print what a search found (the content of `surface.json`)."""
    for line in sentences(surface):
        print_line(say(line))
    if surface["lowest"]:
        names = list(surface["vary"])
        table = plain_table(
            "share of tokens", "recipe", *(["proposed"] if surface["proposal"] else []), "not shown worse"
        )
        for name in names:
            low, high = surface["region"][name]
            shown = [_share(surface["own"].get(name, 0.0))] + (
                [_share(surface["proposal"][name])] if surface["proposal"] else []
            )
            table.add_row(one_line(name), *shown, f"{low:.3f} to {high:.3f}")
        print_table(table)
    measures = [n for n in surface["measures"] if n not in surface["refused"]]
    for name in measures if surface["effects"] else ():
        unit = surface["measures"][name]["unit"]
        table = plain_table(f"doubling: {one_line(name)}, {unit}", "change", "90 % interval")
        for source, found in surface["effects"].items():
            if name in found:
                e = found[name]
                table.add_row(one_line(source), f"{e['per_doubling']:+.4f}", f"{e['low']:+.4f} to {e['high']:+.4f}")
        print_table(table)
    if confirm and surface["proposal"] is None:
        print("Nothing to confirm: no mixture is named.")
    for name in ("surface.json", "best.toml", "mix.html"):
        if (folder / name).is_file():
            print(folder / name)
    best = [folder / "best.toml"] if (folder / "best.toml").is_file() else []
    print_next(
        *(f"{command('build', recipe)} builds the proposed mixture" for recipe in best),
        f"{command('open', folder / 'mix.html')} opens the page",
    )


def sentences(surface: dict[str, Any]) -> list[str]:
    """Return verdict and findings in sentences, the verdict first."""
    out = [f"Verdict: {verdict_words(surface)}"]
    if surface["loo_error"] is not None:
        out.append(
            f"Surface: {surface['objective']['form']}, leave-one-out error {surface['loo_error']:.4f}, spread of the "
            f"arms {surface['spread']:.4f}, noise floor {surface['objective']['noise_floor']:.4f}."
        )
    if surface.get("tokens", {}).get("proposal"):
        tokens = surface["tokens"]
        out.append(
            f"Tokens: {tokens['proposal']:,} of the proposal, {tokens['recipe']:,} of the recipe; {tokens['arm']:,} an "
            "arm."
        )
    if surface["confirmed"]:
        out.append(confirmed_words(surface["confirmed"]))
    if surface.get("rank"):
        out.append(rank_words(surface["rank"]))
    out += [f"Refused: {name}: {why}." for name, why in surface["refused"].items()]
    out += [f"Failed: {name}: {why}" for name, why in surface["failed"].items()]
    if surface["failed"]:
        out.append(f"The surface stands on the other {sum(1 for a in surface['arms'] if not a['failed'])} runs.")
    return out + [f"Note: {note}." for note in surface["notes"]]


def verdict_words(surface: dict[str, Any]) -> str:
    """Return the verdict in one sentence."""
    if surface["verdict"] == "not-measurable":
        return f"not measurable: {surface['why']}."
    gain = surface["gain"]
    interval = f"{gain['value']:+.4f} ({gain['low']:+.4f} to {gain['high']:+.4f}; positive is better)"
    if surface["verdict"] == "better":
        return f"another mixture is better than the recipe's own: gain {interval} in {unit_of(surface)}."
    return f"nothing to choose here: {surface['why']}. The largest gain that the surface shows: {interval}."


def unit_of(surface: dict[str, Any]) -> str:
    """Return what the objective is in."""
    of, unit = surface["objective"]["of"], next(iter(surface["measures"].values()))["unit"]
    names = ", ".join(of)
    return f"{unit} of {names}" if len(of) == 1 else f"mean {unit} of {names}"


def confirmed_words(found: dict[str, Any]) -> str:
    """Return what fresh seeds showed, in one sentence."""
    if found["all"] is None:
        return "Not confirmed: too few of the fresh runs have values."
    e, seeds = found["all"], len(found["seeds"]["proposal"])
    said = "confirmed" if e["low"] > 0 else "refuted: it is worse" if e["high"] < 0 else "not confirmed"
    interval = f"{e['value']:+.4f}, 95 % interval {e['low']:+.4f} to {e['high']:+.4f}, p {e['p']:.2g}"
    return f"With {seeds} fresh seeds the gain is {said}: {interval}."


def rank_words(found: dict[str, Any]) -> str:
    """Return how far proxy and model order the arms alike, in one sentence."""
    said = "may" if found["low"] > 0 else "is not shown to"
    interval = f"Spearman {found['spearman']:+.2f}, 95 % interval {found['low']:+.2f} to {found['high']:+.2f}"
    return f"The proxy {said} speak for the model: {len(found['arms'])} arms trained as both, {interval}."


def _share(value: float) -> str:
    return f"{value:.3f}"
