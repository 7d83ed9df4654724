"""What arms are made of: own shares, tokens that suffice, rows that stay out, and sources that are one under two names."""

import polars as pl
import pytest
from tests.steel_eval.mix.sources import RECIPE, SEARCH, pool, rows, world, write

from steel_data.errors import InputError
from steel_data.mixture.manifest import read_manifest
from steel_data.recipe.load import load
from steel_eval.arms import build_arm, write_arm
from steel_eval.mix.pool import make_pool, read_held
from steel_eval.mix.settings import read_search


def made(root, path):
    recipe = load(path)
    return make_pool(recipe, read_search(recipe.search, recipe.path), root / "out", root)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    root = tmp_path_factory.mktemp("pool")
    return root, made(root, world(root))


def test_own_shares_are_those_of_the_tokens_and_rows_held_out_are_not_there(here):
    root, found = here
    tokens = {n: a["tokens"] for n, a in read_manifest(root / "out/pool/mixture")["sources"].items()}
    assert found.own == pytest.approx({n: t / sum(tokens.values()) for n, t in tokens.items()})
    assert found.total == sum(tokens.values()) and found.held == {"chat": 30, "exam": 30}
    assert 0 < tokens["exam"] - found.there["exam"] < tokens["exam"] / 8 and found.there["noise"] == tokens["noise"]
    assert found.copies == {"chat": 4, "exam": 4, "noise": 4} and found.notes == ()


def test_an_arm_has_its_shares_and_none_of_the_rows_held_out(here):
    root, found = here
    shares = found.shares([0.2, 0.2, 0.6])
    arm = write_arm("one", found.arm(shares, 4000, [1]), root / "out")
    manifest = build_arm(arm, root / "out", root).manifest
    assert {n: a["tokens"] / 4000 for n, a in manifest["sources"].items()} == pytest.approx(shares, abs=0.01)
    ids = set(pl.read_parquet(arm.mixture / "train-*.parquet")["id"])
    held = read_held(found.held_folder)
    assert len(held) == 60 and all(row["measured"] for row in held) and ids.isdisjoint(row["id"] for row in held)
    more = write_arm("two", found.arm(found.shares([0.3, 0.2, 0.5]), 4000, [1]), root / "out")
    build_arm(more, root / "out", root)
    other = pl.read_parquet(more.mixture / "train-*.parquet")
    chat = {n: set(f.filter(pl.col("source") == "chat")["id"]) for n, f in (("more", other),)}["more"]
    assert set(pl.read_parquet(arm.mixture / "train-*.parquet").filter(pl.col("source") == "chat")["id"]) <= chat


def test_the_largest_mixture_can_be_built(here):
    root, found = here
    shares = found.shares([0.1, 0.7, 0.2])
    arm = write_arm("large", found.arm(shares, found.largest(shares), [1]), root / "out")
    assert build_arm(arm, root / "out", root).manifest["sources"]["exam"]["repeated"] > 0
    with pytest.raises(InputError, match="tokens of 'exam'"):
        build_arm(
            write_arm("larger", found.arm(shares, int(1.02 * found.largest(shares)), [1]), root / "out"),
            root / "out",
            root,
        )


def test_shares_written_sum_to_one_whatever_is_rounded():
    thirds = pool().mix({"chat": 1 / 3, "exam": 1 / 3, "code": 1 / 3}, 900)
    assert sum(thirds["mix"]["sources"].values()) == pytest.approx(1, abs=1e-12)
    assert thirds["source"]["chat"] == {"repeat": 4}
    assert pool(kind="language").mix({"zh": 0.8, "en": 0.2}, 900) == {
        "mix": {"budget_tokens": 900, "languages": {"zh": 0.8, "en": 0.2}}
    }


def test_what_does_not_vary_keeps_its_share():
    found = pool(vary=("chat", "exam"))
    assert found.shares([0.5, 0.5]) == pytest.approx({"chat": 0.4, "exam": 0.4, "code": 0.2})


@pytest.mark.parametrize(
    ("recipe", "search", "message"),
    [
        (RECIPE, SEARCH + 'vary = ["chat", "exma"]\n', "no source 'exma' whose share can vary. Did you mean 'exam'"),
        (RECIPE, SEARCH + "bounds = { exma = [0, 1] }\n", "no source 'exma'"),
        (RECIPE, SEARCH + 'vary = ["chat", "exam"]\nbounds = { noise = [0, 1] }\n', "bounds: 'noise' does not vary"),
        (RECIPE, SEARCH.replace('"exam"', '"exma"'), "no source 'exma' to hold rows out of. Did you mean 'exam'"),
        (RECIPE + "[mix]\nbudget_rows = 9\n", SEARCH, r"\[mix\]: budget_rows: a search counts tokens"),
        (RECIPE + "[mix]\nlanguages = { zh = 1 }\n", SEARCH, "languages fix what the shares of sources would change"),
        (RECIPE.replace('path = "exam.jsonl"', 'path = "exam.jsonl"\nallow_test_split = "x"'), SEARCH, "a test split by its own"),
        (RECIPE.replace("[source.exam]", "[source.exam]\ntake = 40"), SEARCH, r"source 'exam' has 40 rows, too few .* 100 rows"),
        (RECIPE.replace('"noise.jsonl"', '"chat.jsonl"'), SEARCH, r"'chat' and 'noise' hold the same rows under two names \(300 of 300\)"),
    ],
)  # fmt: skip
def test_what_no_search_could_be_made_of_is_refused(tmp_path, recipe, search, message):
    with pytest.raises(InputError, match=message):
        made(tmp_path, world(tmp_path, recipe, search))


def test_twins_are_found_behind_dedup_and_other_spelling(tmp_path):
    """dedup leaves the second of two equal sources empty, and blanks give the same rows other ids."""
    twins = RECIPE.replace('path = "noise.jsonl"', 'path = "copy.jsonl"')
    spaced = [{k: v.replace("，", "， ") + " " for k, v in row.items()} for row in rows("exam", 300)]
    write(tmp_path, "copy", spaced)
    for filters in ("", 'filters = [{ use = "dedup" }]\n'):
        with pytest.raises(InputError, match="'exam' and 'noise' hold the same rows under two names"):
            made(tmp_path, world(tmp_path, filters + twins))


def test_rows_that_stand_elsewhere_are_not_measured(tmp_path):
    path = world(tmp_path)
    write(tmp_path, "noise", [*rows("noise", 300), *rows("exam", 60)])
    found = made(tmp_path, path)
    assert found.notes and found.notes[0].startswith("exam: of 30 rows held out ")
    held = [row for row in read_held(found.held_folder) if row["source"] == "exam"]
    assert 10 <= sum(row["measured"] for row in held) < 30


def test_languages_vary_by_their_own_targets(tmp_path):
    path = world(tmp_path, RECIPE + "[mix]\nlanguages = { zh = 0.9, en = 0.1 }\n", SEARCH + 'vary = ["zh", "en"]\n')
    english = [
        {"instruction": f"Name {i} things about the rain.", "output": f"It waters {i} green plants."} for i in range(90)
    ]
    write(tmp_path, "noise", [*rows("noise", 300), *english])
    found = made(tmp_path, path)
    assert (found.kind, found.vary, found.own) == ("language", ("zh", "en"), {"zh": 0.9, "en": 0.1})
    assert set(found.copies.values()) == {1}
    arm = write_arm("en", found.arm({"zh": 0.7, "en": 0.3}, 2000, [1]), tmp_path / "out")
    languages = build_arm(arm, tmp_path / "out", tmp_path).manifest["languages"]
    assert languages["en"] / sum(languages.values()) == pytest.approx(0.3, abs=0.02)
