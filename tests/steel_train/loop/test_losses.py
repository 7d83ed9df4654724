"""Losses on pairs are those of their papers, written out; a run learns with each of them."""

import math

import pytest
import torch
from tests.steel_train.conftest import BASIC
from tests.steel_train.loop.test_session import trace
from tests.steel_train.test_bad_input import save_model
from tests.steel_train.toys import write_pairs

from steel_data.build import build
from steel_data.recipe.load import load
from steel_train.loop.losses import orpo_loss, simpo_loss

NLL, LEARNT, ROWS = torch.tensor([4.0, 9.0, 2.0, 2.0]), torch.tensor([4, 3, 2, 4]), torch.arange(4)


def test_simpo_compares_means_of_tokens():
    found = simpo_loss(LEARNT, beta=2.0, gamma=0.5)(NLL, ROWS)
    margins = [2 * (-1 + 3), 2 * (-1 + 0.5)]
    assert found[1].tolist() == pytest.approx([margins[0], 0, margins[1], 0])
    assert found[0].tolist() == pytest.approx([math.log1p(math.exp(0.5 - margins[0])), 0,
                                               math.log1p(math.exp(0.5 - margins[1])), 0])  # fmt: skip
    assert found[2].tolist() == [1, 0, 0, 0]


def test_orpo_adds_the_odds_to_the_chosen_answer_s_loss():
    found = orpo_loss(LEARNT, beta=0.1)(NLL, ROWS)

    def odds(mean):
        return mean - math.log(1 - math.exp(mean))

    for pair, (chosen, rejected) in enumerate([(-1, -3), (-1, -0.5)]):
        ratio = odds(chosen) - odds(rejected)
        expected = -chosen + 0.1 * math.log1p(math.exp(-ratio))
        assert found[:2, 2 * pair].tolist() == pytest.approx([expected, 0.1 * ratio], rel=1e-5)
    sure = orpo_loss(LEARNT, beta=0.1)(torch.zeros(4, requires_grad=True), ROWS)
    assert torch.isfinite(sure).all(), "an answer that is certain has no odds"


@pytest.mark.parametrize("method", ["orpo", "simpo"])
def test_a_run_without_a_reference_raises_the_margin(tmp_path, method):
    from steel_train.run import run

    save_model(tmp_path / "base")
    write_pairs(tmp_path / "pairs.json", 16)
    table = {**BASIC, "method": f'"{method}"', "micro_batch": 2, "accumulate": 2, "epochs": 6, "log_every": 1}
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        '[source.pairs]\npath = "pairs.json"\n[train]\nmodel = "base"\neval = { rows = 2 }\n'
        + "\n".join(f"{k} = {v}" for k, v in table.items()), encoding="utf-8",
    )  # fmt: skip
    mixture = build(load(recipe), out=tmp_path / "mixture", cache=tmp_path / "cache").folder
    run(recipe, mixture, tmp_path / "run", None)
    found = [line for line in trace(tmp_path / "run") if "loss" in line]
    assert found[-1]["loss"] < found[0]["loss"] and found[-1]["margin"] > found[0]["margin"]
    assert not list((tmp_path / "run").glob("reference*"))
