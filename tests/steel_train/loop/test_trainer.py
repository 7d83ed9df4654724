"""The loss is the mean over the learnt tokens of the whole step, however the step is cut up."""

import json

import numpy as np
import pytest
import torch
from tests.steel_train.toys import model, rows, tokenizer
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput

from steel_train.examples.encode import Encoder
from steel_train.examples.folder import encode_batch
from steel_train.loop.losses import sft_loss
from steel_train.loop.metrics import Window
from steel_train.loop.trainer import Job, SteelTrainer, arguments
from steel_train.models.attention import ATTENTION
from steel_train.schedule.batches import Steps
from steel_train.schedule.order import Schedule
from steel_train.settings import Settings


@pytest.fixture(scope="module")
def examples():
    return encode_batch(Encoder(tokenizer(), 256), rows(64), 0)


class PlainConfig(PretrainedConfig):
    """Config of a model as people port them: no `**kwargs` in its forward."""

    model_type = "plain"

    def __init__(self, vocab_size=400, hidden_size=16, **kwargs):
        self.vocab_size, self.hidden_size = vocab_size, hidden_size
        super().__init__(**kwargs)


class PlainBody(PreTrainedModel):
    config_class = PlainConfig

    def __init__(self, config):
        super().__init__(config)
        self.embed = torch.nn.Embedding(config.vocab_size, config.hidden_size)
        self.rnn = torch.nn.GRU(config.hidden_size, config.hidden_size, batch_first=True)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, use_cache=None):
        return BaseModelOutput(last_hidden_state=self.rnn(self.embed(input_ids))[0])


class Plain(PreTrainedModel, GenerationMixin):
    config_class, base_model_prefix = PlainConfig, "model"

    def __init__(self, config):
        super().__init__(config)
        self.model, self.lm_head = PlainBody(config), torch.nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self):
        return self.lm_head

    def forward(self, input_ids=None, attention_mask=None, labels=None, use_cache=None):
        return CausalLMOutput(logits=self.lm_head(self.model(input_ids, attention_mask).last_hidden_state))


def make_trainer(net, examples, folder, micro_batch, accumulate, room=None):
    settings = Settings(model="m", micro_batch=micro_batch, accumulate=accumulate, epochs=1, precision="fp32")
    schedule = Schedule(examples.unit_lengths(), 0, 1, micro_batch, accumulate, room=room)
    steps = Steps(examples, schedule, 0)
    window = Window(examples, examples.table["learnt"].to_numpy().astype(np.int64))
    job = Job(folder, settings, steps, window, sft_loss, lambda step: {}, [])
    return SteelTrainer(job, model=net, args=arguments(settings, schedule, folder, 0), processing_class=tokenizer())


def gradients(net, examples, folder, micro_batch, accumulate, room=None):
    """Return all gradients of the first step, flat, in float64, and its loss."""
    trainer = make_trainer(net, examples, folder, micro_batch, accumulate, room)
    net.zero_grad()
    loss = trainer.training_step(trainer.model, trainer.job.steps[0])
    return torch.cat([p.grad.flatten().double() for p in net.parameters() if p.grad is not None]), float(loss)


def plain():
    torch.manual_seed(0)
    return Plain(PlainConfig())


def test_eight_times_eight_is_sixty_four(examples, tmp_path):
    one, loss_one = gradients(model(), examples, tmp_path, 64, 1)
    many, loss_many = gradients(model(), examples, tmp_path, 8, 8)
    packed, loss_packed = gradients(model(ATTENTION), examples, tmp_path, 8, 8, room=400)
    for other, loss in ((many, loss_many), (packed, loss_packed)):
        assert loss == pytest.approx(loss_one, rel=1e-6)
        assert (other - one).norm() / one.norm() < 1e-5


def test_also_for_a_model_whose_forward_takes_no_keyword_arguments(examples, tmp_path):
    one, _ = gradients(plain(), examples, tmp_path, 64, 1)
    many, _ = gradients(plain(), examples, tmp_path, 8, 8)
    assert (many - one).norm() / one.norm() < 1e-5


def test_the_loss_is_the_mean_over_learnt_tokens(examples, tmp_path):
    net = model()
    _, loss = gradients(net, examples, tmp_path, 8, 8)
    total = count = 0
    for i in range(64):
        ids, learnt = (torch.tensor(np.array(x)) for x in examples.one(i))
        logits = net(ids[None].long()).logits[0, :-1].double()
        picked = torch.log_softmax(logits, -1).gather(1, ids[1:, None].long())[:, 0][learnt[1:]]
        total, count = total - picked.sum().item(), count + len(picked)
    assert loss == pytest.approx(total / count, rel=1e-5)


def test_losses_by_source_and_kind_add_up_to_the_loss(train):
    folder = train(epochs="1", log_every="1")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {name for line in lines for name in line["loss_by_source"]} == {"chat", "identity"}
    for line in lines:
        assert line["loss_by_source"] == line["loss_by_kind"]  # the sources of this mixture are named like their kinds
        low, high = min(line["loss_by_source"].values()), max(line["loss_by_source"].values())
        assert low <= line["loss"] <= high
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_packed_and_padded_runs_have_the_same_trace(train):
    traces = []
    for name, packing in (("packed", "true"), ("padded", "false")):
        lines = (train(name, packing=packing) / "metrics.jsonl").read_text().splitlines()
        traces.append([(line["step"], line["loss"]) for line in map(json.loads, lines)])
    assert [s for s, _ in traces[0]] == [s for s, _ in traces[1]]
    assert np.allclose([x for _, x in traces[0]], [x for _, x in traces[1]], rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "last"),
    [({}, 0.0), ({"min_lr_ratio": "0.1"}, 0.1), ({"schedule": '"wsd"', "min_lr_ratio": "0.2"}, 0.2)],
)
def test_the_learning_rate_falls_as_the_schedule_says(train, settings, last):
    lines = (train(epochs="4", warmup="0.0", log_every="1", **settings) / "metrics.jsonl").read_text().splitlines()
    rates = [json.loads(line)["learning_rate"] / 1e-3 for line in lines]
    assert rates[0] == pytest.approx(1) and rates[-1] == pytest.approx(last, abs=0.2)
    if settings.get("schedule"):
        assert min(rates[:-5]) == pytest.approx(1) and rates[-1] < 1, "it stays, then falls in the last tenth"
    assert min(rates) >= last - 1e-6


def test_frozen_weights_stay_and_noise_is_training_s_alone(train):
    from safetensors.torch import load_file

    from steel_data.errors import InputError

    plain = train("plain", max_steps="3", save_every="1", learning_rate="1e-2")
    noisy = train("noisy", max_steps="3", neftune_alpha="5.0")
    frozen = train(
        "frozen", max_steps="3", save_every="1", learning_rate="1e-2", freeze='["*embed_tokens*", "model.layers.0.*"]'
    )
    assert (plain / "metrics.jsonl").read_text() != (noisy / "metrics.jsonl").read_text()
    for folder, moved in ((plain, True), (frozen, False)):
        first, last = (load_file(folder / f"checkpoints/step-00000{i}/model.safetensors") for i in (1, 3))
        for name in ("model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight"):
            assert torch.equal(first[name], last[name]) is not moved
        assert not torch.equal(first["model.layers.1.mlp.up_proj.weight"], last["model.layers.1.mlp.up_proj.weight"])
    with pytest.raises(InputError, match=r"freeze: no weight is named 'model.embed'"):
        train("none", freeze='["model.embed"]')
