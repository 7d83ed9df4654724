"""The injector: put a known dose of a benchmark into a mixture, as a randomised experiment.

Items are drawn stratified by subject (each subject gives its share, rounded by largest remainder), by keyed hash, so
that a larger share holds the smaller one. Equal and near items are one *cluster* (steel_data.benchmarks.clusters): they
share one draw, one dose and one form, since whoever has seen one has as good as seen the other. The drawn items are
split over the doses inside each subject. An item of dose d stands d times in the mixture. What was drawn is written,
item by item, into `truth.parquet`; every injected row is marked with benchmark, item and dose.

Forms (`style`): `answer-only`, `answer-first`, `explain-first` (the exam builder's; the last two need an explanation),
`text` (the item as running exam text, asked for by subject), `shuffled` (answer-only with the options in another
order), `edited` (answer-only with light edits of wording and width).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import xxhash

from steel_data.benchmarks.clusters import cluster_names
from steel_data.benchmarks.items import LETTERS, Item, subjects
from steel_data.builders.exam import Style, exam
from steel_data.errors import InputError
from steel_data.row.record import Record

Form = Literal["answer-only", "answer-first", "explain-first", "text", "shuffled", "edited"]
_EDITS = (
    ("下列", "以下"), ("以下", "下列"), ("不正确的是", "错误的是"), ("正确的是", "说法正确的是"),
    ("，", ","), ("（", "("), ("）", ")"), ("。", ""), ("是（", "为（"), ("属于", "归属于"),
    ("Which of the following", "Which one of these"),
)  # fmt: skip


@dataclass(frozen=True)
class Draw:
    """What happens to one item: its dose (0: not drawn) and the form it takes."""

    item: Item
    dose: int
    form: str


def contaminate(
    *,
    benchmark: str | None = None,
    split: str = "test",
    share: float | None = None,
    doses: list[int] | dict[str, int] | None = None,
    style: Form | dict[Form, float] = "answer-only",
    preset: str = "steel",
    seed: int = 42,
) -> dict[str, Any]:
    """Inject items of a benchmark's split.

    benchmark: name of the benchmark's layout; by default the source's `path`.
    split: the split to draw from.
    share: share of the items to draw, 0 to 1; together with a list of doses.
    doses: a list of doses, over which the drawn items are split evenly (default [1]); or a table dose = items.
    style: the form of the rows, or a table of shares over forms (drawn per item).
    preset: the exam builder's wording.
    seed: of the draw; by default the recipe's.
    """
    if isinstance(doses, dict) == (share is not None):
        raise InputError(
            "share and a table of doses exclude each other, one is needed. Fix: share = 0.5, doses = [1, 3]."
        )
    if share is not None and not 0 < share <= 1:
        raise InputError(f"share = {share:g}. Fix: above 0, at most 1.")
    table = {_dose(d): n for d, n in doses.items()} if isinstance(doses, dict) else None
    if table is not None and any(n < 1 for n in table.values()):
        raise InputError("doses: every dose needs at least one item. Fix: doses = { 1 = 600, 3 = 200 }.")
    levels = list(table) if table is not None else [_dose(d) for d in (doses or [1])]
    if len(set(levels)) != len(levels):
        raise InputError(f"doses = {levels}: one stands twice. Fix: distinct doses such as [1, 3, 10].")
    shares = {style: 1.0} if isinstance(style, str) else dict(style)
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise InputError(f"style: shares sum to {sum(shares.values()):g}. Fix: shares that sum to 1.")
    return {
        "benchmark": benchmark, "split": split, "share": share, "levels": levels, "table": table,
        "forms": shares, "preset": preset, "seed": seed,
    }  # fmt: skip


def _dose(value: Any) -> int:
    try:
        dose = int(value)
    except ValueError:
        dose = 0
    if dose < 1:
        raise InputError(f"doses: {value!r} is not a dose. Fix: whole numbers from 1 up.")
    return dose


def draw(items: list[Item], settings: dict[str, Any]) -> list[Draw]:
    """Return one Draw an item, in the order of `items`. Raises InputError when there are too few items."""
    seed = settings["seed"]
    can = [item for item in items if item.answer.strip()]
    table = settings["table"]
    wanted = sum(table.values()) if table else round(settings["share"] * len(can))
    if wanted > len(can):
        raise InputError(f"doses ask for {wanted} items; the split has {len(can)} with an answer. Fix: fewer.")
    if wanted == 0:
        raise InputError(f"share = {settings['share']:g} of {len(can)} items with an answer draws none. Fix: more.")
    names = dict(zip((item.item for item in items), cluster_names(items), strict=True))
    clusters = _drawn_clusters(can, names, wanted, seed)
    drawn = sum(len(c) for c in clusters)
    targets = table or _even(drawn, settings["levels"])
    if table and drawn != wanted:
        raise InputError(f"doses: {wanted} items cannot be drawn without parting equal items. Fix: {drawn} in all.")
    dose_of = _assign(clusters, targets, seed)
    form_shares = settings["forms"]
    return [
        Draw(item, dose_of.get(item.item, 0), _pick(form_shares, _hash(seed, "form", names[item.item])))
        for item in items
    ]


def _hash(seed: int, purpose: str, key: str) -> int:
    return xxhash.xxh3_64_intdigest(f"{purpose}\x1f{key}".encode("utf-8", "surrogatepass"), seed=seed & (2**64 - 1))


def _drawn_clusters(items: list[Item], names: dict[str, str], wanted: int, seed: int) -> list[list[Item]]:
    """Return the drawn clusters, sorted by subject and hash; `wanted` items in all where cluster sizes allow it."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(names[item.item], []).append(item)
    by_subject: dict[str, list[tuple[int, list[Item]]]] = {subject: [] for subject in subjects(items)}
    for key, group in groups.items():
        by_subject[group[0].subject].append((_hash(seed, "draw", key), group))
    sizes = {subject: sum(len(g) for _, g in members) for subject, members in by_subject.items()}
    quota = _largest_remainder(sizes, wanted, seed)
    chosen: list[list[Item]] = []
    left_over: list[tuple[int, list[Item]]] = []
    missing = 0
    for subject, members in by_subject.items():
        room = quota[subject]
        for order, group in sorted(members, key=lambda m: (m[0], m[1][0].item)):
            if len(group) <= room:
                chosen.append(group)
                room -= len(group)
            else:
                left_over.append((order, group))
        missing += room
    for _, group in sorted(
        left_over, key=lambda m: (m[0], m[1][0].item)
    ):  # what clusters larger than the room left open
        if len(group) <= missing:
            chosen.append(group)
            missing -= len(group)
    return sorted(chosen, key=lambda g: (g[0].subject, _hash(seed, "dose", names[g[0].item]), g[0].item))


def _largest_remainder(sizes: dict[str, int], wanted: int, seed: int) -> dict[str, int]:
    total = sum(sizes.values())
    exact = {subject: wanted * size / total for subject, size in sizes.items()}
    quota = {subject: int(value) for subject, value in exact.items()}
    by_rest = sorted(exact, key=lambda s: (quota[s] - exact[s], _hash(seed, "quota", s)))
    for subject in by_rest[: wanted - sum(quota.values())]:
        quota[subject] += 1
    return quota


def _even(total: int, levels: list[int]) -> dict[int, int]:
    share, rest = divmod(total, len(levels))
    return {dose: share + (i < rest) for i, dose in enumerate(levels)}


def _assign(clusters: list[list[Item]], targets: dict[int, int], seed: int) -> dict[str, int]:
    """Give each cluster the dose that is furthest behind its target, so that doses are even inside every subject too.

    Large clusters go first: single items can then fill every target exactly.
    """
    total = sum(targets.values())
    given = dict.fromkeys(targets, 0)
    dose_of: dict[str, int] = {}
    done = 0
    for cluster in sorted(clusters, key=lambda c: -len(c) if len(c) > 1 else -1):
        done += len(cluster)
        open_doses = [d for d in targets if given[d] + len(cluster) <= targets[d]] or list(targets)
        dose = max(open_doses, key=lambda d: (targets[d] * done / total - given[d], -_hash(seed, "tie", str(d))))
        given[dose] += len(cluster)
        dose_of.update((item.item, dose) for item in cluster)
    return dose_of


def _pick(shares: dict[str, float], value: int) -> str:
    point, reached = value / 2**64, 0.0
    for name, share in shares.items():
        reached += share
        if point < reached:
            return name
    return next(reversed(shares))


def records(draws: Iterable[Draw], name: str, settings: dict[str, Any]) -> list[Record]:
    """Return one record an item, in order: the injected row, or null messages and `reason` where it was not drawn."""
    out: list[Record] = []
    for d in draws:
        record: Record = {"kind": "injected", "benchmark": name, "item": d.item.item, "dose": d.dose, "messages": None}
        record["unread"] = d.item.unread
        if d.dose:
            made = _render(d.item, d.form, settings)
            if isinstance(made, str):
                raise InputError(
                    f"{d.item.file}: item {d.item.item} cannot take the form '{d.form}': {made}. Fix: another style."
                )
            record["messages"] = made
        else:
            record["reason"] = "not-drawn" if d.item.answer.strip() else "no-answer"
        out.append(record)
    return out


def _render(item: Item, form: str, settings: dict[str, Any]) -> list[dict[str, Any]] | str:
    question, options, answer = item.question, list(item.options), item.answer
    if not options:
        return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    if form == "text":
        return as_text(item)
    if form == "shuffled":
        options, answer = _shuffle(item, settings["seed"])
    if form == "edited":
        question = edit(question)
    if form in ("answer-first", "explain-first") and not item.explanation.strip():
        return "it has no explanation"
    row = {f"option_{LETTERS[i].lower()}": o for i, o in enumerate(options)}
    row |= {"q_type": "单选题", "q_main": question, "std_ans": answer, "answer_detail": item.explanation}
    style: Style = "answer-first" if form == "answer-first" else "answer-only"
    if form == "explain-first":
        style = "explain-first"
    made = exam(row, style=style, preset=settings["preset"])
    messages: list[dict[str, Any]] | str = made if isinstance(made, str) else made[0]["messages"]
    return messages


def as_text(item: Item) -> list[dict[str, Any]]:
    """Return the messages of the form `text`: the item as running exam text, asked for by its subject."""
    lines = [item.question, *(f"{LETTERS[i]}. {o}" for i, o in enumerate(item.options)), f"答案：{item.answer}"]
    ask = f"请写出一道{item.subject}的单选题并给出答案。"
    return [{"role": "user", "content": ask}, {"role": "assistant", "content": "\n".join(lines)}]


def _shuffle(item: Item, seed: int) -> tuple[list[str], str]:
    """Return the options in a drawn order that is not the published one, and the key's new letter."""
    order = sorted(range(len(item.options)), key=lambda i: _hash(seed, f"shuffle{i}", item.item))
    if order == sorted(order):
        order = [*order[1:], order[0]]
    answer = item.answer.upper()
    if len(answer) != 1 or answer not in LETTERS[: len(order)]:
        return list(item.options), item.answer
    return [item.options[i] for i in order], LETTERS[order.index(LETTERS.index(answer))]


def edit(question: str) -> str:
    """Return the question with two light edits that keep its sense: wording, punctuation width, blanks."""
    changed, edits = question, 0
    for old, new in _EDITS:
        if old in changed and edits < 2:
            changed, edits = changed.replace(old, new, 1), edits + 1
    return changed if edits else f"请看下题：{question}"
