"""What a study prints of a crossed pool: the verdict first, then gains and detectors, each beside its interval."""

from steel_eval.study.print import print_pool


def gain(dose, value, p):
    return {
        "dose": dose,
        "pairs": 12,
        "runs": 4,
        "p": p,
        "gain": value,
        "low": value - 0.1,
        "high": value + 0.1,
        "detectable": 0.15,
    }


def results(p):
    clean = {"reported": 0.40, "clean": 0.36, "low": 0.30, "high": 0.42, "runs": 3}
    entry = {
        "accuracy": [0.4] * 4,
        "left_out": 0,
        "gains": [gain(1, 0.02, 0.4), gain(10, 0.3, p)],
        "clean_scores": [clean],
    }
    detector = {
        "detector": "min-k % 20",
        "reference": "other runs",
        "dose": 10,
        "auc": 0.81,
        "low": 0.7,
        "high": 0.9,
        "pairs": 12,
        "runs": 4,
        "p": 0.004,
        "rates": [
            {"what": "hits at 5 %", "controls": "unseen", "value": 0.4, "low": 0.2, "high": 0.6},
            {"what": "items accused", "controls": "same subjects", "value": 0.05, "low": 0.03, "high": 0.08},
        ],
    }
    return {"preset": "steel-likelihood", "presets": {"steel-likelihood": {"cmmlu": entry}}, "detectors": [detector]}


def test_what_was_found_stands_first_and_beside_its_error_rate(capsys):
    print_pool(results(0.0002))
    text = capsys.readouterr().out
    assert text.index("seen: yes (false alarms: at most 5 in 100)") < text.index("one-sided")
    assert "10 copies raise the score by +30.0 points" in text
    assert "inflation: +4.0 points (95 % interval -2.0 to +10.0), the mean run against a clean run" in text
    assert "0.70 .. 0.90" in text and "reference runs" in text
    assert "40 % (20-60)" in text and "5 % (3-8) / -" in text and "0.004" in text


def test_the_smallest_of_two_p_values_is_held_against_half_the_rate(capsys):
    print_pool(results(0.03))
    assert "seen: cannot tell. Its score does not show that items were seen" in capsys.readouterr().out
