"""The warning label of a score: what its model's training mixture declares, or shows, of the questions it answers.

A label never says "clean" of what nobody looked at: undeclared contamination is found only where the mixture and the
questions are at hand, and everywhere else the label says that it was not looked for.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from steel_eval.contamination.overlap import Held

MARK = "†"  # behind every score of a contaminated task
NO_ABILITY = "The score is not one of ability"
FEW = 0.05  # of the questions: below, the label says how many points they can make up
NOT_LOOKED = "not looked for"  # every reason for not looking begins so


@dataclass(frozen=True)
class CleanEstimate:
    """What a contaminated checkpoint would have scored, with its 95 % interval, from `unseen` questions.

    `reference`: the arm, clean on this task, whose score on all questions was used, and its label; "" for none. `runs`:
    runs of it, of which the estimate is learnt; 0: the interval is of this run's own score, no other's. `guessing`:
    they are not surely above chance.
    """

    clean: float
    low: float
    high: float
    unseen: int
    reference: str
    runs: int = 0
    guessing: bool = False


@dataclass(frozen=True)
class Mark:
    """What is known of one task's questions (`n` of them) and one run's mixture.

    `declared`: dose -> items; None: nothing says what the run was trained on. `inherited`: dose -> items of the
    benchmark that the model it was trained from had seen, and those before it. `counted`: these are the questions that
    were scored, else all of the benchmark. `held`: the questions in the mixture, by name; None: not known one by one.
    `looked`: "" where undeclared questions were looked for, else why not, in words. `estimates`: of the clean score;
    `no_estimate`: why there is none.
    """

    task: str
    n: int
    declared: dict[int, int] | None
    counted: bool = False
    held: dict[str, Held] | None = None
    looked: str = NOT_LOOKED
    estimates: Sequence[CleanEstimate] = ()
    no_estimate: str = ""
    inherited: Mapping[int, int] = field(default_factory=dict)

    @property
    def contaminated(self) -> bool:
        """Return whether the mixture declares or shows any of the questions, or one of an earlier training did."""
        return self.own or bool(self.inherited)

    @property
    def own(self) -> bool:
        """Return whether the run's own mixture declares or shows any of the questions."""
        return bool(self.declared) or bool(self.held)

    @property
    def undeclared(self) -> int:
        """Return how many questions the mixture holds although nothing declares them."""
        return sum(entry.dose == 0 for entry in (self.held or {}).values())

    @property
    def seen(self) -> int:
        """Return how many questions the mixture holds, as far as known."""
        own = len(self.held) if self.held is not None else sum((self.declared or {}).values())
        return own + sum(self.inherited.values())

    def short(self) -> str:
        """Return the label in a few words."""
        doses = f", dose{'s' * (len(self.declared) > 1)} {_doses(self.declared)}" if self.declared else ""
        if not self.contaminated:
            none = "nothing is known of its training data" if self.declared is None else "none declared"
            found = f"undeclared {self.looked.partition(':')[0]}" if self.looked else f"none found of {self.n:,} items"
            return f"{none}, {found}"
        own, before = self.seen - sum(self.inherited.values()), ""
        if self.inherited:
            before = f"its base saw {sum(self.inherited.values()):,} items of the benchmark"
        if not self.own:
            return f"contaminated: {before}"
        before = before and f"; {before}"
        if self.held is None and not self.counted:
            return f"contaminated: {own:,} items of the benchmark declared{doses}{before}"
        some = "" if self.undeclared == own else f"{self.undeclared:,} "
        undeclared = f", {some}undeclared" if self.undeclared else ""
        return f"contaminated: {own:,} of {self.n:,} items{doses}{undeclared}{before}"

    def sentence(self) -> str:
        """Return what stood in the training data, for a reader who knows no term of it."""
        parts = []
        if self.declared:
            times = ", ".join(f"{n:,} of them {_times(dose)}" for dose, n in sorted(self.declared.items()))
            which = f"of these {self.n:,} questions" if self.counted else "questions of this benchmark"
            of = f"{sum(self.declared.values()):,} {which}"
            parts.append(f"{of} were put into its training data, as its recipe declares ({times})")
        if self.undeclared:
            more = "more " if self.declared else ""
            parts.append(
                f"{self.undeclared:,} {more}of the {self.n:,} questions turn up in its training rows, equal or "
                "nearly so, although nothing declares them"
            )
        if self.inherited:
            parts.append(
                f"{sum(self.inherited.values()):,} questions of this benchmark stood in the training data of the model "
                "that it was trained from"
            )
        return "; ".join(parts)

    def weight(self) -> str:
        """Return in words how much of the score the seen questions can make up."""
        if not self.inherited and self.seen < FEW * self.n and (self.counted or self.held is not None):
            return f"They can make up at most {100 * self.seen / self.n:.1f} points of the score"
        return NO_ABILITY

    def caveat(self) -> str:
        """Return what was not looked at, "" where everything was."""
        return f"Undeclared questions were {self.looked}" if self.looked else ""

    def note(self, name: str) -> str:
        """Return the footnote of a score, of `name`: what was seen, the clean estimate, what nobody looked at."""
        if self.contaminated:
            parts = [f"{MARK} {name}: {self.sentence()}", self.weight(), self.estimated(), self.caveat()]
        else:
            parts = [f"{name}: {self.short()}", self.caveat()]
        return ". ".join(part for part in parts if part) + "."

    def estimated(self) -> str:
        """Return the clean estimate in words, with what it rests on, or why there is none."""
        if not self.contaminated:
            return ""
        if not self.estimates:
            return f"No clean score can be estimated: {self.no_estimate or 'which questions it saw is not known'}"
        return f"{'; '.join(map(_claim, self.estimates))}. {self.basis()}"

    def basis(self) -> str:
        """Return in words what the estimate takes for granted."""
        if not self.declared:
            return "It assumes that the seen questions are like the others: nobody drew them at random"
        left = f", minus {self.undeclared:,} that turned up in other rows" if self.undeclared else ""
        return f"These were left out of training at random{left}"


def _doses(declared: Mapping[int, int]) -> str:
    doses = sorted(declared)
    return "/".join(map(str, doses)) if len(doses) <= 5 else f"{doses[0]} to {doses[-1]}"


def _times(dose: int) -> str:
    return "once" if dose == 1 else f"{dose} times"


def _claim(e: CleanEstimate) -> str:
    """Return an estimate in words that claim no more than its interval holds."""
    using = f" with {e.reference} as reference" if e.reference else ""
    if e.runs:
        chance = "; at chance, so it may favour another letter" if e.guessing else ""
        return (
            f"Estimated clean score, of a further run that saw none: {_interval(e)}, as the {e.runs} runs of "
            f"{e.reference} tell{chance}"
        )
    return (
        f"This run's score on questions that it never saw: {_interval(e)}{using}, from {e.unseen:,} of them (another "
        "run would differ by more: the noise of runs is not known)"
    )


def _interval(e: CleanEstimate) -> str:
    return f"{100 * e.clean:.1f} % (95 % interval {100 * e.low:.1f} to {100 * e.high:.1f})"


def mark_of_scores(scores: Mapping[str, Any], task: str) -> Mark:
    """Return the label that scores.json alone gives: what the mixture declares, counted where scoring counted it."""
    n = int(scores["tasks"][task].get("n") or 0)
    said, before = scores.get("contamination"), declared_of(inherited_of(scores), task)
    if said is None:
        return Mark(task, n, None, inherited=before)
    counted = (scores.get("declared_items") or {}).get(task)
    if counted is not None:
        doses = {int(dose): items for dose, items in counted.items() if dose != "0"}
        return Mark(task, n, doses, counted=True, inherited=before)
    return Mark(task, n, declared_of(said, task), inherited=before)


def inherited_of(scores: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Return what the mixtures of a model's earlier trainings declared: benchmark -> dose -> items, all together.

    They are those of the model that it was trained from, and before it (`base.history` of steel.json).
    """
    base = (scores.get("training") or {}).get("base") or {}
    total: dict[str, dict[str, int]] = {}
    for earlier in base.get("history") or []:
        said = earlier.get("contamination") if isinstance(earlier, Mapping) else None
        for benchmark, doses in said.items() if isinstance(said, Mapping) else ():
            mine = total.setdefault(str(benchmark), {})
            for dose, items in doses.items() if isinstance(doses, Mapping) else ():
                if str(dose).isdigit() and isinstance(items, int):
                    mine[str(dose)] = mine.get(str(dose), 0) + items
    return total


def declared_of(said: Mapping[str, Any], task: str) -> dict[int, int]:
    """Return dose -> items of the declared benchmarks that a task's name begins with (lm-eval: `cmmlu_agronomy`)."""
    counts: dict[int, int] = {}
    for benchmark, doses in said.items():
        if re.match(rf"{re.escape(benchmark)}(?![A-Za-z0-9])", task):
            for dose, items in doses.items():
                if dose != "0":
                    counts[int(dose)] = counts.get(int(dose), 0) + items
    return counts


def declared_words(said: Mapping[str, Mapping[str, int]] | None) -> str:
    """Return what a mixture declares: `cmmlu: 30 items x 1, 10 items x 3`."""
    if said is None:
        return "unknown"
    counts = {b: ", ".join(f"{n:,} items x {dose}" for dose, n in doses.items()) for b, doses in said.items()}
    return "; ".join(f"{benchmark}: {doses}" for benchmark, doses in counts.items()) or "none"


def comparison_warning(a: str, b: str, mark_a: Mark, mark_b: Mark) -> str:
    """Return the sentence that a comparison of two arms needs where one of them saw the questions, else ""."""
    dirty = [(name, mark) for name, mark in ((a, mark_a), (b, mark_b)) if mark.contaminated]
    if not dirty:
        return ""
    seen = "; ".join(f"{name} is {mark.short()}" for name, mark in dirty)
    points = [100 * mark.seen / mark.n for _, mark in dirty if mark.weight() != NO_ABILITY]
    what = NO_ABILITY.replace("score", "difference")
    if len(points) == len(dirty):
        what = f"Seen questions can make up at most {max(points):.1f} points of the difference"
    if len(dirty) == 2:
        return f"Both saw questions of this task in training ({seen}). {what}."
    other, its = (a, mark_a) if dirty[0][0] == b else (b, mark_b)
    return f"{seen} ({other}: {its.short()}). {what}."
