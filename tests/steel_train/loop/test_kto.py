"""KTO on answers judged good or bad: the paper's loss, TRL's on the same rows, and a run against a plain loop."""

import json

import numpy as np
import polars as pl
import pytest
import torch
from tests.steel_train.conftest import write_recipe
from tests.steel_train.loop.test_session import interrupt_at, trace, weights
from tests.steel_train.test_bad_input import save_model
from tests.steel_train.toys import model, tokenizer

from steel_data.errors import InputError
from steel_data.recipe.load import load
from steel_data.row.record import KINDS
from steel_train.examples.encode import Encoder
from steel_train.examples.folder import encode_batch
from steel_train.examples.prepare import Prepared, divided
from steel_train.examples.tokenizer import CHATML
from steel_train.loop.losses import KtoLoss
from steel_train.loop.session import Session
from steel_train.preflight.inspect import _unbalanced
from steel_train.settings import Kto, read_settings

# TRL learns what a template writes after the end token; this one writes nothing
BARE = CHATML.replace("'<|im_end|>\\n'", "'<|im_end|>'")


def judged(count=24):
    return [
        {"id": f"{i:032x}", "source": "ab"[i % 2], "kind": "kto", "label": i % 3 > 0,
         "prompt": [{"role": "user", "content": f"请回答第{i}题。"}],
         "completion": [{"role": "assistant", "content": f"{'答案是水壶' if i % 3 else '不知道'}{i}。" + "水壶。" * (i % 4)}]}
        for i in range(count)
    ]  # fmt: skip


def encoded(rows, template=CHATML, length=256, overlong="cut"):
    return encode_batch(Encoder(tokenizer(template), length, overlong), rows, 0).of_form("kto")


def text(examples, i):
    ids, learnt = examples.one(i)
    tok = tokenizer()
    return tok.decode(ids[~np.array(learnt)]), tok.decode(ids[np.array(learnt)])


def test_beside_each_answer_stands_its_prompt_with_the_next_row_s_answer():
    rows = judged(5)
    rows[1]["completion"] = rows[0]["completion"]  # equal answers are not another's
    examples = encoded(rows)
    assert examples.units == len(examples.mismatched.table) == 5 and examples.per_unit == 1
    assert examples.table["label"].to_list() == [r["label"] for r in rows]
    for i, other in enumerate([2, 2, 3, 4, 0]):
        prompt, answer = text(examples, i)
        assert answer == rows[i]["completion"][0]["content"] + "<|im_end|>"
        assert text(examples.mismatched, i) == (prompt, rows[other]["completion"][0]["content"] + "<|im_end|>")
    part = examples.part(np.array([False, True, False, True, False]))
    assert [text(e, 1)[0] for e in (part, part.mismatched)] == [text(examples, 3)[0]] * 2


def test_a_row_too_long_is_dropped_for_its_own_answer_alone():
    rows = judged(3)
    rows[1]["completion"][0]["content"] *= 30
    cut, dropped = encoded(rows, length=64), encoded(rows, length=64, overlong="drop")
    assert cut.units == 3 and cut.lengths.max() == 64
    assert dropped.units == 2 and dropped.dropped["reason"].to_list() == ["longer than max_length"]
    assert dropped.mismatched.lengths.max() == 64 and (dropped.unit_lengths() == [64, dropped.unit_lengths()[1]]).all()


def test_the_loss_is_that_of_the_paper():
    nll, reference = torch.tensor([4.0, 9.0, 3.0]), torch.tensor([5.0, 7.0, 4.0])
    settings = Kto(beta=0.5, desirable_weight=2.0, undesirable_weight=3.0)
    loss = KtoLoss(reference, torch.tensor([6.0, 6.0, 6.0]), torch.tensor([True, False, False]), None, settings)
    others = torch.tensor([5.0, 5.5, 6.5])
    loss.set_level(float(loss.gained(others, torch.arange(3))), 3)
    assert loss.level == pytest.approx((1 + 0.5 - 0.5) / 3)
    found, level = loss(nll, torch.arange(3)), 1 / 3
    margins = [0.5 * (1 - level), 0.5 * (level + 2), 0.5 * (level - 1)]
    expected = [w * (1 - 1 / (1 + np.exp(-m))) for w, m in zip([2, 3, 3], margins, strict=True)]
    assert found[0].tolist() == pytest.approx(expected, abs=1e-6) and found[1].tolist() == pytest.approx(margins)
    assert found[2].tolist() == [1, 1, 0] and found[3].tolist() == pytest.approx([level] * 3)
    loss.set_level(-5.0, 3)
    assert loss.level == 0, "the divergence is not negative"


@pytest.mark.slow
def test_trl_finds_the_same_loss_on_the_same_rows(tmp_path):
    """Its pairs go backwards (the answer of the row before), so it is given the rows in reverse, as one batch."""
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    rows, settings = judged(8), Kto(beta=0.3, desirable_weight=1.5)
    reference, policy = model(vocab=448), model(vocab=448)
    torch.manual_seed(1)
    for weight in policy.parameters():
        weight.data += 0.02 * torch.randn_like(weight)
    columns = ("prompt", "completion", "label")
    trainer = KTOTrainer(
        model=policy, ref_model=reference, processing_class=tokenizer(BARE),
        args=KTOConfig(output_dir=str(tmp_path), per_device_train_batch_size=8, beta=0.3, desirable_weight=1.5,
                       report_to="none", use_cpu=True, bf16=False, max_length=None, gradient_checkpointing=False),
        train_dataset=Dataset.from_list([{k: row[k] for k in columns} for row in rows[::-1]]),
    )  # fmt: skip
    theirs = trainer._compute_loss(policy, next(iter(trainer.get_train_dataloader())), False)
    examples = encoded(rows, BARE)
    with torch.no_grad():
        own = {(side, name): plain_nll(net, e) for side, net in (("p", policy), ("r", reference))
               for name, e in (("own", examples), ("other", examples.mismatched))}  # fmt: skip
    good = torch.tensor(examples.table["label"].to_numpy())
    loss = KtoLoss(own["r", "own"], own["r", "other"], good, None, settings)
    loss.set_level(float(loss.gained(own["p", "other"], torch.arange(8))), 8)
    assert loss.level > 1e-3
    assert float(loss(own["p", "own"], torch.arange(8))[0].mean()) == pytest.approx(theirs.item(), rel=1e-5)


def plain_nll(net, examples):
    """Return each example's negative log-likelihood from the model's own logits, one row at a time."""
    found = []
    for i in range(examples.units):
        ids, learnt = (torch.from_numpy(np.array(x)) for x in examples.one(i))
        logits = net(ids[None].long()).logits[0, :-1].float()
        each = torch.nn.functional.cross_entropy(logits, ids[1:].long(), reduction="none")
        found.append(each[learnt[1:]].sum())
    return torch.stack(found)


@pytest.fixture
def start(tmp_path, shared_mixture):
    """Return start(name, **settings): a run over judged answers, in this process."""
    save_model(tmp_path / "base")

    def run(name="r", **settings):
        table = {"method": '"kto"', "epochs": "2", "log_every": "1", "save_every": "2", "packing": "true", **settings}
        recipe = load(write_recipe(tmp_path, shared_mixture, name, model='model = "base"', **table))
        manifest = {"name": name, "content_sha256": "0" * 64, "rows": 24}
        prepared = Prepared(recipe, read_settings(recipe.train, recipe.path), manifest, tokenizer(), encoded(judged()))
        session = Session(divided(prepared), tmp_path / name, 7)
        session.train([])
        return tmp_path / name, session

    return run


@pytest.mark.parametrize("layout", [{"packing": "true"}, {"packing": "false"}], ids=["packed", "padded"])
def test_a_run_is_a_plain_loop(start, layout):
    """Its losses, step by step, are those of AdamW on the formula, rows alone, to 1e-6."""
    options = {"kto": "{ beta = 0.5 }", "schedule": '"constant"', "warmup": "0", "max_grad_norm": "0"}
    folder, session = start(**options, **layout, learning_rate="1e-3")
    examples, net = session.prepared.examples, model(vocab=448)
    good = torch.tensor(examples.table["label"].to_numpy())
    with torch.no_grad():
        before, before_other = plain_nll(net, examples), plain_nll(net, examples.mismatched)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.0)
    found = trace(folder)
    assert len(found) == 6 and found[-1]["loss"] < found[0]["loss"] and found[-1]["kl"] > 0
    for step, line in enumerate(found):
        units = session.schedule.units(step)
        with torch.no_grad():
            level = (before_other - plain_nll(net, examples.mismatched))[units].mean().clamp(min=0)
        gain = (before - plain_nll(net, examples))[units]
        sign = torch.where(good[units], 1.0, -1.0)
        loss = torch.sigmoid(-0.5 * sign * (gain - level)).mean()
        assert line["loss"] == pytest.approx(float(loss), abs=1e-6), step
        assert line["kl"] == pytest.approx(float(level), abs=1e-5)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    assert found[0]["loss"] == pytest.approx(0.5, abs=1e-6), "the policy is the reference before the first step"


def test_a_killed_run_goes_on_bit_for_bit_and_computes_no_reference_again(start, tmp_path, monkeypatch):
    options = {"eval": "{ rows = 4 }", "learning_rate": "1e-2"}
    whole, _ = start("whole", **options)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 8)
        with pytest.raises(KeyboardInterrupt):
            start("killed", **options)
    kept = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "killed").glob("reference*")}
    assert set(kept) == {f"reference{held}{other}.npy" for held in ("", "-held-out") for other in ("", "-others")}
    killed, _ = start("killed", **options)
    assert trace(killed) == trace(whole) and weights(killed) == weights(whole)
    assert kept == {file.name: file.stat().st_mtime_ns for file in killed.glob("reference*")}
    looks = [line for line in trace(whole) if "eval_loss" in line]
    assert {"eval_margin", "eval_accuracy", "eval_kl"} <= looks[-1].keys()


def test_an_adapter_learns_from_judged_answers(start):
    folder, _ = start(lora="{ rank = 4 }", learning_rate="5e-3", epochs="4", kto="{ desirable_weight = 0.6 }")
    found = trace(folder)
    assert found[-1]["loss"] < found[0]["loss"] and found[-1]["margin"] > 0.02
    said = json.loads((folder / "checkpoints/step-000012/steel.json").read_text())
    assert said["train"]["method"] == "kto" and sum(said["exposures"]["rows"].values()) == 96


def test_weights_that_do_not_balance_are_said():
    table = pl.DataFrame({"label": [True] * 10 + [False] * 40})
    assert "desirable_weight from 4 to 5.32" in _unbalanced(table, Kto())[0]
    assert not _unbalanced(table, Kto(desirable_weight=4.5))
    assert "KTO learns from both" in _unbalanced(pl.DataFrame({"label": [True, True]}), Kto())[0]


@pytest.mark.parametrize("method", ["kto", "dpo", "simpo"])
def test_rows_of_another_form_are_refused(train, tmp_path, method):
    save_model(tmp_path / "base")
    with pytest.raises(
        InputError, match=r'method = ".*" learns from .*, and the mixture has conversations .*method = "full"'
    ):
        train(model='model = "base"', method=f'"{method}"')


@pytest.mark.skipif("kto" not in KINDS, reason="steel_data makes no rows of judged answers yet")
def test_from_a_recipe_to_a_run(tmp_path):
    from steel_train.run import run

    save_model(tmp_path / "base")
    lines = [
        {"instruction": f"第{i}题？", "input": "", "output": f"答案{i}" + "甲乙。" * (i % 4), "label": i % 2 == 0}
        for i in range(16)
    ]
    (tmp_path / "judged.json").write_text(json.dumps(lines, ensure_ascii=False), encoding="utf-8")
    recipe = tmp_path / "kto.toml"
    recipe.write_text(
        '[source.judged]\npath = "judged.json"\nbuild = { use = "chat", layout = "kto" }\n[train]\nmodel = "base"\n'
        'method = "kto"\nmicro_batch = 4\naccumulate = 1\nmax_length = 128\nepochs = 3\nlearning_rate = 1e-2\nlog_every = 1\n'
    )
    run(recipe, out=tmp_path / "run")
    found = trace(tmp_path / "run")
    assert len(found) == 12 and found[-1]["loss"] < found[0]["loss"]
