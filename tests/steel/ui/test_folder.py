"""What a folder of runs holds; what lies outside of it is not there."""

import json
from pathlib import Path

import pytest

from steel.ui.folder import _run_of, look, metrics, read_json, results
from steel_data.errors import InputError


def test_mixtures_runs_scores_and_pages_are_found_by_their_path(runs: Path) -> None:
    found = look(runs)
    assert set(found.mixtures) == {"a/mixture"} and set(found.runs) == {"a", "b"}
    assert {key: len(folders) for key, folders in found.scored.items()} == {"a": 2, "b": 2}
    assert set(found.pages) == {"a/mixture/card.html"} and not found.more
    assert set(look(runs / "a/mixture").mixtures) == {""}  # the folder itself


@pytest.mark.parametrize(
    ("place", "run"),
    [
        ("a/scores/step-000010", "a"),
        ("a/scores/seed-1/step-10", "a"),
        ("a/seed-1/scores/step-10", "a/seed-1"),
        ("a/scores/step-10/cmmlu-preset", "a"),
        ("scores/qwen", "scores/qwen"),
        ("llama/checkpoint-500", "llama"),
        ("a/scores", "a"),
    ],
)
def test_scores_belong_to_the_run_that_they_lie_in(place: str, run: str) -> None:
    assert _run_of(Path(place)) == run


def test_links_out_of_the_folder_are_not_followed(runs: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "manifest.json").write_text("{}")
    (outside / "card.html").write_text("secret")
    (runs / "linked").symlink_to(outside)
    (runs / "c").mkdir()
    (runs / "c/manifest.json").symlink_to(outside / "manifest.json")
    (runs / "c/card.html").symlink_to(outside / "card.html")
    (runs / "c/report.html").symlink_to(runs / "c/report.html")  # to itself
    found = look(runs)
    assert set(found.mixtures) == {"a/mixture"} and set(found.pages) == {"a/mixture/card.html"}


def test_half_a_line_at_the_end_is_a_run_at_work_and_one_within_is_damage(runs: Path) -> None:
    lines, damaged = metrics(runs / "b")
    assert (len(lines), damaged) == (20, 0)
    text = (runs / "b/metrics.jsonl").read_text()
    (runs / "b/metrics.jsonl").write_text('{"step": \n[1]\n{"loss": 1}\n' + text)
    lines, damaged = metrics(runs / "b")
    assert (len(lines), damaged) == (20, 1)


@pytest.mark.parametrize("text", ["{", "[1]", ""])
def test_damaged_json_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(InputError, match=r"scores\.json: "):
        read_json(tmp_path / "scores.json")


def test_results_are_in_order_of_seeds_and_steps(tmp_path: Path) -> None:
    places = [tmp_path / f"seed-{seed}/step-{step}" for seed in (10, 2) for step in (100, 20)]
    for place in places:
        place.mkdir(parents=True)
        (place / "scores.json").write_text(json.dumps({"tasks": {}, "step": int(place.name[5:])}))
    assert [r.folder.relative_to(tmp_path).as_posix() for r in results(places)] == [
        "seed-2/step-20", "seed-2/step-100", "seed-10/step-20", "seed-10/step-100",
    ]  # fmt: skip
    (places[0] / "scores.json").write_text('{"tasks": [1]}')
    with pytest.raises(InputError, match="holds no tasks"):
        results(places)
