"""Custom steps of the golden recipe: a filter that edits and drops, an expression, a builder."""

import polars as pl


def polite(record):
    """Drop a rude answer; take the opener from the others."""
    last = record["messages"][-1]
    if "滚" in last["content"]:
        return "rude"
    last["content"] = last["content"].removeprefix("好的，")
    return record


def not_secret():
    """Keep rows whose tag is not `secret`."""
    return ~pl.col("meta").str.contains('"tag":"secret"').fill_null(False)


def faq(row, *, product):
    """Make one conversation a question; a row of two questions makes two."""
    if not row["answer"]:
        return "no-answer"
    asked = row["question"].replace("<产品>", product).split("|")
    return [
        {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": row["answer"]}]} for q in asked
    ]
