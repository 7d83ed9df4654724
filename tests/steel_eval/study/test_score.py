"""What a study scores: each arm's last checkpoints, as `[eval]` asks, in one order of questions."""

import json

import numpy as np
from tests.steel_eval import toys

from steel_eval.arms import RunArm
from steel_eval.ask.tasks import limited, load_task
from steel_eval.study.score import items_of, score_arms
from steel_eval.study.settings import StudySettings


def test_arms_are_scored_as_the_settings_ask(toy_data, tmp_path):
    (tmp_path / "recipes").mkdir()
    arms = []
    for number, name in enumerate(("clean", "injected")):
        recipe = tmp_path / "recipes" / f"{name}.toml"
        recipe.write_text(f'name = "{name}"\n[source.a]\npath = "a.jsonl"\n[train]\nseeds = [1]\n', encoding="utf-8")
        for step in (5, 10):
            place = toys.save(tmp_path / name / f"seed-1/checkpoints/step-{step:06d}", seed=number)
            (place / "steel.json").write_text(json.dumps({"step": step, "seed": 1}))
        arms.append(RunArm(name, recipe, tmp_path / name))
    task = limited(load_task("cmmlu", toy_data), 3)
    how = StudySettings(
        tasks=["cmmlu"], presets=["steel-likelihood"], checkpoints="all", dtype="float32", max_length=512,
        chat_template_kwargs={},
    )  # fmt: skip
    found = score_arms(arms, [task], how, tmp_path)
    assert [point.step for point in found["clean"].seeds[0]] == [10]  # of the control arm the last alone
    assert [point.step for point in found["injected"].seeds[0]] == [5, 10]
    answers = found["injected"].answers("steel-likelihood", "cmmlu")
    assert answers.shape == (1, len(items_of(task))) == (1, 6) and set(np.unique(answers)) <= {0.0, 1.0}
    said = json.loads((tmp_path / "clean/seed-1/scores/step-000010/scores.json").read_text())
    assert (said["dtype"], said["context"], said["opened"]) == ("float32", 512, {"max_length": 512})
    assert said["tasks"]["cmmlu"]["limit"] == 3 and found["clean"].last[0].facts["seed"] == 1
