"""C-Eval and CMMLU: the published columns, items that stand twice, letters that tell nothing."""

from collections import Counter

from tests.steel_data.sample.corpus import benchmark, table


def test_benchmarks_have_the_published_columns(folder):
    assert (folder / "cmmlu/test/agronomy.csv").read_text(encoding="utf-8").startswith(",Question,A,B,C,D,Answer\n0,")
    heads = {split: next(iter(table(folder / f"ceval/{split}/law_{split}.csv"))) for split in ("dev", "val", "test")}
    plain = ["id", "question", "A", "B", "C", "D"]
    assert {split: list(row) for split, row in heads.items()} == {
        "dev": [*plain, "answer", "explanation"],
        "val": [*plain, "answer"],
        "test": plain,
    }
    for row in benchmark(folder, "cmmlu").values():
        assert len({row[letter] for letter in "ABCD"}) == 4


def test_shared_and_repeated_items(folder, summary):
    items = {name: benchmark(folder, name) for name in ("cmmlu", "ceval")}

    def at(name, place):
        split, subject, row = place.split("/")
        return items[name][split, subject, int(row)]

    assert summary["counts"]["shared_items"] == len(summary["shared_items"]) >= 2
    for pair in summary["shared_items"]:
        one, two = at("cmmlu", pair["cmmlu"]), at("ceval", pair["ceval"])
        assert one["Question"] == two["question"]
        options = [[row[x] for x in "ABCD"] for row in (one, two)]
        assert (options[0] == options[1]) == pair["same_order"]
        assert sorted(options[0]) == sorted(options[1])
    assert summary["counts"]["repeated_questions"] == len(summary["repeated_questions"]) >= 2
    for pair in summary["repeated_questions"]:
        key = "Question" if pair["benchmark"] == "cmmlu" else "question"
        one, two = at(pair["benchmark"], pair["first"]), at(pair["benchmark"], pair["again"])
        assert one[key] == two[key]
        assert {one[x] for x in "ABCD"} != {two[x] for x in "ABCD"}
    questions = Counter(row["Question"] for row in items["cmmlu"].values())
    assert sum(n - 1 for n in questions.values()) == sum(
        p["benchmark"] == "cmmlu" for p in summary["repeated_questions"]
    )


def test_gold_letters_are_balanced_in_every_file(folder, truth):
    letters: dict[tuple[str, str], Counter] = {}
    for row in truth:
        if row["source"] in ("cmmlu", "ceval"):
            letters.setdefault((row["source"], row["item"].rsplit("/", 1)[0]), Counter())[row["answer"]] += 1
    for counts in letters.values():
        assert max(counts[x] for x in "ABCD") - min(counts[x] for x in "ABCD") <= 1


def test_the_text_does_not_give_the_answer_away(folder):
    """Length, alphabet, size of number and a value's frequency elsewhere as guesses: each must be right by chance."""
    rows = list(benchmark(folder, "cmmlu").values())
    frequency = Counter(row[x] for row in rows for x in "ABCD")

    def number(option):
        return int("".join(c for c in option if c.isdigit()) or 0)

    for rule in (len, str, number, lambda o: -number(o), lambda o: frequency[o], lambda o: -frequency[o]):
        right = sum(max("ABCD", key=lambda x: (rule(row[x]), x)) == row["Answer"] for row in rows)
        error = (0.25 * 0.75 / len(rows)) ** 0.5
        assert abs(right / len(rows) - 0.25) < 4 * error
