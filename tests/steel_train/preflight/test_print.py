"""What people see: the mask in the first batch, counts of a sample scaled up, and no control character."""

import dataclasses
import io
import re

from rich.console import Console
from tests.steel_train.preflight.test_inspect import question

from steel_train.preflight.costs import hours, parse_devices
from steel_train.preflight.inspect import inspect
from steel_train.preflight.print import first_batch, print_report


def printed(report):
    out = io.StringIO()
    print_report(report, Console(file=out, width=200))
    return out.getvalue()


def test_the_first_batch_shows_the_mask():
    asked = question()
    shown = first_batch(asked.examples, asked.schedule, asked.tokenizer, 1).plain
    assert re.search(r"assistant\n»[^«]*<\|im_end\|>«", shown)
    assert "user\n»" not in shown


def test_the_report_says_rows_shares_steps_and_layout():
    text = printed(inspect(question()))
    assert re.search(r"all +\d+ +[\d,]+ +[\d,]+ +\d+\.\d% +100\.0%", text)
    assert "rows 40\n" in text and "steps 10 of 8 rows, 5 an epoch; 5 checkpoints" in text
    assert "turns end with <|im_end|> 100.0%" in text and "layout: padding" in text


def test_counts_of_a_sample_are_scaled_up_and_said_to_be():
    report = dataclasses.replace(inspect(question()), rows=80, cut=3)
    assert "rows 80, read a sample of 40; counts are scaled up" in printed(report)
    assert "cut at max_length: 6 rows" in printed(report)


def test_the_estimate_names_its_devices():
    two = parse_devices("4090x2", "2.5/h")
    text = printed(dataclasses.replace(inspect(question()), devices=two, hours=hours(2 * 165e12 * 3600, two)))
    assert "estimate on 2 x 4090: 2.2 to 6.7 hours, price 11.1 to 33.3" in text
    for shorter, said in ((60, "2.2 to 6.7 minutes,"), (3600, "under a minute,")):
        few = dataclasses.replace(inspect(question()), devices=two, hours=hours(2 * 165e12 * 3600 / shorter, two))
        assert f"estimate on 2 x 4090: {said}" in printed(few)


def test_names_from_data_are_made_visible():
    report = inspect(question())
    report.sources[0]["source"], report.dropped["template: \x1b[31m"] = "\x1b]0;evil", 1
    assert "\x1b" not in printed(report)
