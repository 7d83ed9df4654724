"""Answers that somebody has judged: one good or bad one (KTO), or several with scores or ranks (a ranking list).

Of a ranking list the best and the worst answer make a pair (`prompt`, `chosen`, `rejected`): that pair is the surest,
and pairs of all with all would count a question of many answers many times. A single answer has no partner: it stays
one row with its label where the recipe asks for such rows; where it asks for conversations, a bad one is not learnt.
"""

import math
from typing import Any

from steel_data.builders.turns import UnusableError, decoded
from steel_data.errors import excerpt

# How published lists of {answer, score} objects name the two; of several the first that is there.
_ANSWER = ("response", "answer", "completion", "content", "text", "output")
_SCORE = ("overall_score", "score", "rating", "reward")
_RANK = ("rank", "ranking")
JUDGED_BAD = "kto: judged bad"  # how the reason begins
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")


def is_good(verdict: Any) -> bool:
    """Return whether an answer is judged good: true or false, 0 or 1, also as text. Raises UnusableError."""
    said = str(verdict).strip().lower() if isinstance(verdict, str | bool | int) else ""
    if said in _TRUE or said in _FALSE:
        return said in _TRUE
    shown = f"'{excerpt(str(verdict), 30)}'" if verdict is not None else "nothing"
    raise UnusableError(f"kto: {shown} where true or false belongs")


def best_and_worst(answers: Any, scores: Any, ranks: Any) -> tuple[Any, Any]:
    """Return the best and the worst of a list of answers, the first ones where several are worth the same.

    scores: numbers, the highest is the best; ranks: numbers, the lowest is the best. Both None: `answers` are objects
    that hold their own. Raises UnusableError where that is not so, or all are worth the same.
    """
    answers = decoded(answers)
    if not isinstance(answers, list) or len(answers) < 2:
        raise UnusableError(f"ranking: not a list of two answers or more; {excerpt(str(answers), 40)}")
    if scores is not None and ranks is not None:
        raise UnusableError("ranking: both scores and ranks")
    if scores is None and ranks is None:
        answers, worth = _of_objects(answers)
    else:
        worth = _numbers("scores" if ranks is None else "ranks", decoded(scores if ranks is None else ranks))
        worth = [-number for number in worth] if ranks is not None else worth
    if len(worth) != len(answers):
        raise UnusableError(f"ranking: {len(answers)} answers, but {len(worth)} judgements")
    best, worst = worth.index(max(worth)), worth.index(min(worth))
    if best == worst:
        raise UnusableError("ranking: all answers are worth the same")
    if answers[best] == answers[worst]:
        raise UnusableError("ranking: the best and the worst answer are one text")
    return answers[best], answers[worst]


def _of_objects(answers: list[Any]) -> tuple[list[Any], list[float]]:
    if not all(isinstance(answer, dict) for answer in answers):
        raise UnusableError("ranking: answers without scores or ranks")
    said = next((k for k in _ANSWER if all(k in a for a in answers)), None)
    scored = next((k for k in (*_SCORE, *_RANK) if all(a.get(k) is not None for a in answers)), None)
    if said is None or scored is None:
        keys = excerpt(", ".join(answers[0]), 100)
        raise UnusableError(f"ranking: objects without an answer and its score or rank; the first has: {keys}")
    worth = _numbers(scored, [answer[scored] for answer in answers])
    return [answer[said] for answer in answers], [-n for n in worth] if scored in _RANK else worth


def _numbers(name: str, values: Any) -> list[float]:
    if not isinstance(values, list):
        raise UnusableError(f"ranking: {name} are no list; {excerpt(str(values), 40)}")
    numbers = []
    for value in values:
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if math.isnan(number):
            raise UnusableError(f"ranking: '{excerpt(str(value), 30)}' among the {name}, which are numbers")
        numbers.append(number)
    return numbers
