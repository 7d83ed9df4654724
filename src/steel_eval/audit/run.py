"""`audit`: the faults of a benchmark's questions, from their texts and from the answers of many checkpoints."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape

from steel_data.chinese import language, say
from steel_data.errors import excerpt
from steel_data.page.nav import AUDIT, publish
from steel_data.page.templates import environment
from steel_data.row.display import command, console, plain_table, print_next, print_table
from steel_eval.ask.tasks import load_task
from steel_eval.audit.answers import CHECKPOINTS, WITNESSES, consensus, negative, witnesses
from steel_eval.audit.findings import KINDS, Asked, Suspect, ordered, text_findings
from steel_eval.compare.runs import load_arm
from steel_eval.contamination.items import card_of
from steel_train.say import write_json

LISTED = 20  # on the terminal; the page has all


def audit_command(
    places: Sequence[str], tasks: Sequence[str], data: Path, preset: str | None, out: Path
) -> dict[str, Any]:
    """Print the findings, write `audit.html` and `audit.json` to `out`, and return the latter. Raises InputError.

    `places`: scored runs; without any only the texts are looked at.
    """
    arms = [load_arm(place, preset) for place in places]
    runs = [run for arm in arms for run in arm.runs]
    questions = [
        Asked(name, item) for name in tasks for group in load_task(name, data).items.values() for item in group
    ]
    findings, notes = list(text_findings(questions)), []
    for name in tasks:
        mine = {q.item.item: q for q in questions if q.task == name}
        seen = witnesses(runs, name)
        if seen is None:
            notes.append(f"{name}: no checkpoint with log-probabilities: only the texts were looked at")
            continue
        able = int(seen.able_R.sum())
        missing = [item for item in seen.items if item not in mine]
        if missing:
            notes.append(f"{name}: {len(missing)} questions that were scored are not in --data ({missing[0]}, …)")
        notes.append(
            f"{name}: {len(seen.able_R)} checkpoints, of {able} runs the last is above chance level "
            f"(accuracy {100 * seen.accuracy_R.min():.1f} to {100 * seen.accuracy_R.max():.1f} %)"
        )
        if able < WITNESSES:
            notes.append(f"{name}: fewer than {WITNESSES} models above chance level: their agreement is no evidence")
        if len(seen.able_R) < CHECKPOINTS:
            notes.append(f"{name}: fewer than {CHECKPOINTS} checkpoints: discrimination is not looked at")
        findings += [*consensus(seen, mine), *negative(seen, mine)]
    results = _results(tasks, questions, ordered(findings), notes)
    _print(results)
    write_json(out / "audit.json", results)
    template = environment(Path(__file__).parent).get_template("audit.html.j2")
    page = template.render(r=results, kinds=KINDS, first=language())
    cards = {f"Data card of {arm.name}": card_of(arm.runs[0][0].folder) for arm in arms}
    publish(out / "audit.html", page, AUDIT, cards)
    typer.echo(str(out / "audit.html"))
    print_next(f"{command('open', out / 'audit.html')} opens the page")
    return results


def _results(
    tasks: Sequence[str], questions: Sequence[Asked], findings: Sequence[Suspect], notes: Sequence[str]
) -> dict[str, Any]:
    counts = Counter(f.kind for f in findings)
    touched = {f.question.name for f in findings}
    return {
        "verdict": f"{len(touched):,} of {len(questions):,} questions have something to look at"
        if touched else f"nothing found in {len(questions):,} questions",
        "tasks": list(tasks), "questions": len(questions), "notes": list(notes),
        "counts": {kind: counts[kind] for kind in KINDS if counts[kind]},
        "findings": [
            {
                "kind": f.kind, "why": f.why, "strength": f.strength, **_about(f.question),
                "others": [_about(other) for other in f.others],
            }
            for f in findings
        ],
    }  # fmt: skip


def _about(question: Asked) -> dict[str, Any]:
    item = question.item
    return {
        "task": question.task, "item": item.item, "question": item.question, "options": list(item.options),
        "key": item.answer,
    }  # fmt: skip


def _print(results: dict[str, Any]) -> None:
    out = console()
    minded = say("A finding is a question to read, not a proof that its key is wrong.")
    out.print(escape(f"{say('Verdict')}: {say(results['verdict'] + '.')} {minded}"), soft_wrap=True)
    for note in results["notes"]:
        out.print(f"  {escape(note)}", soft_wrap=True)
    table = plain_table("kind", "findings", "what it is")
    table.columns[2].justify, table.columns[2].no_wrap = "left", False
    for kind, n in results["counts"].items():
        table.add_row(kind, f"{n:,}", KINDS[kind])
    print_table(table, out)
    for found in results["findings"][:LISTED]:
        out.print(f"{found['kind']}  {escape(found['task'])}:{escape(found['item'])}", soft_wrap=True, highlight=False)
        out.print(f"  {escape(excerpt(found['question'], 160))}", soft_wrap=True, highlight=False)
        out.print(f"  {escape(excerpt(found['why'], 200))}", soft_wrap=True, highlight=False)
    if len(results["findings"]) > LISTED:
        out.print(f"… and {len(results['findings']) - LISTED:,} more on the page")
