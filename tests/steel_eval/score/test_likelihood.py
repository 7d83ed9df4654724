"""Shared prefixes change the cost and nothing else; what cannot share is found out and scored plainly."""

import copy

import numpy as np
import pytest
import torch
from tests.steel_eval import toys
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from steel_eval.ask.trie import Request, make_plan
from steel_eval.score import likelihood as scorer
from steel_eval.score.likelihood import (
    Partial,
    Sharing,
    prefix_sharing,
    score_passes,
    score_plan,
    score_requests,
)


def requests(vocabulary: int, n: int = 20, stem: int = 60) -> list[Request]:
    draw = np.random.default_rng(3)
    start = draw.integers(0, vocabulary, stem).tolist()
    out = []
    for i in range(n):
        question = start + draw.integers(0, 4, int(draw.integers(1, 30))).tolist()
        out += [Request([*question, *[letter] * (1 + i % 3)], len(question)) for letter in range(4)]
    return out


def truth(model, request: Request) -> float:
    """One full prompt, all logits, softmax in float64: the definition."""
    with torch.inference_mode():
        logits = model(torch.tensor([request.tokens[:-1]])).logits[0].double().log_softmax(-1)
    return sum(float(logits[k - 1, request.tokens[k]]) for k in range(request.start, len(request.tokens)))


@pytest.mark.parametrize("budget", [1, 7, 1000])
def test_equals_full_prompts_for_every_cut(toy_model, budget, monkeypatch):
    monkeypatch.setattr(scorer, "CPU_BUDGET", budget)
    asked = requests(420, n=3 if budget == 1 else 12)
    result = score_requests(toy_model, asked)
    assert result.shared
    assert result.logprob == pytest.approx([truth(toy_model, r) for r in asked], abs=1e-4)


def test_few_rows_of_logits_at_a_time_give_the_same(toy_model, monkeypatch):
    asked = requests(420, n=6)
    before = score_requests(toy_model, asked).logprob
    monkeypatch.setattr(scorer, "LOGIT_ELEMENTS", 3 * 420)
    assert score_requests(toy_model, asked).logprob == pytest.approx(before, abs=1e-5)


@pytest.mark.parametrize("budget", [40, 1000])
def test_attention_in_blocks_gives_the_same(toy_model, budget, monkeypatch):
    asked = [Request([*range(i, i + 30), 7, 8], 10) for i in range(6)]  # six rows of a pass that see nothing of another
    monkeypatch.setattr(scorer, "CPU_BUDGET", budget)
    monkeypatch.setattr(scorer, "_SPARED", 1 << 40)
    whole = score_requests(toy_model, asked).logprob
    monkeypatch.setattr(scorer, "_SPARED", 0)
    monkeypatch.setattr(scorer, "_BLOCK", 16)
    made = []

    class Counted(scorer.InBlocks):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            made.append(func is scorer.scaled_dot_product_attention)
            return super().__torch_function__(func, types, args, kwargs)

    monkeypatch.setattr(scorer, "InBlocks", Counted)
    assert score_requests(toy_model, asked).logprob == pytest.approx(whole, abs=1e-5)
    assert any(made)  # the model's attention went through it


def test_a_block_of_tokens_multiplies_what_one_of_it_sees(monkeypatch):
    monkeypatch.setattr(scorer, "_BLOCK", 4)
    seen_TC = torch.block_diag(*[torch.tril(torch.ones(4, 4))] * 2).bool()
    assert scorer.InBlocks.of(seen_TC) is None  # too little to skip
    monkeypatch.setattr(scorer, "_SPARED", 1)
    parts = scorer.InBlocks.of(seen_TC).parts
    assert [(a, b, columns.tolist()) for a, b, columns in parts] == [(0, 4, [0, 1, 2, 3]), (4, 8, [4, 5, 6, 7])]


def test_letters_do_not_tie_by_the_rounding_of_logits():
    """In bfloat16 a logit of 20 moves in steps of 0.125: of equal letters the first would be taken."""
    model = toys.model(vocabulary=420, initializer_range=1.0, hidden_size=64).to(torch.bfloat16)
    context = list(range(5, 25))
    result = score_requests(model, [Request([*context, token], 20) for token in range(420)])
    with torch.inference_mode():
        state = model.model(torch.tensor([context])).last_hidden_state[0, -1].float()
        rounded = model(torch.tensor([context])).logits[0, -1]
        exact = (model.lm_head.weight.float() @ state).log_softmax(-1)
    assert len(rounded.unique()) < 360 and len(set(result.logprob.tolist())) > 410
    assert result.logprob == pytest.approx(exact.numpy(), abs=0.1)  # the states are in 16 bits and may differ
    assert rounded.dtype == torch.bfloat16  # as before: the head is wide while scoring alone


def test_greedy_says_whether_the_model_would_write_it(toy_model):
    context = [5, 6, 7]
    with torch.inference_mode():
        best = int(toy_model(torch.tensor([context])).logits[0, -1].argmax())
    result = score_requests(toy_model, [Request([*context, best], 3), Request([*context, (best + 1) % 420], 3)])
    assert result.greedy.tolist() == [True, False]


def small(kind, config, **more):
    torch.manual_seed(1)
    return kind(config(vocab_size=200, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, **more)).eval()  # fmt: skip


@pytest.mark.parametrize(
    "model",
    [
        small(LlamaForCausalLM, LlamaConfig),
        small(MistralForCausalLM, MistralConfig, sliding_window=500),
        GPT2LMHeadModel(GPT2Config(vocab_size=200, n_embd=32, n_layer=2, n_head=4)).eval(),
    ],
    ids=["llama", "mistral", "gpt2"],
)
def test_other_architectures_share_too(model):
    asked = requests(200, n=5)
    sharing = prefix_sharing(model)
    assert sharing.ok, sharing.reason
    result = score_requests(model, asked, sharing)
    assert result.logprob == pytest.approx([truth(model, r) for r in asked], abs=1e-4)


def test_a_prompt_longer_than_the_sliding_window_is_scored_plainly():
    model = small(MistralForCausalLM, MistralConfig, sliding_window=32)
    asked = requests(200, n=3)
    sharing = prefix_sharing(model)
    assert sharing.longest == 32
    result = score_requests(model, asked, sharing)
    assert not result.shared
    assert result.logprob == pytest.approx([truth(model, r) for r in asked], abs=1e-4)


def test_a_model_that_mixes_the_whole_sequence_is_found_out(toy_tokenizer):
    model = toys.model(len(toy_tokenizer), seed=4)

    def mix(module, args, output):
        return output + output.mean(
            dim=1, keepdim=True
        )  # sees every token of the row, as a soft mixture over the sequence does

    model.model.layers[0].mlp.register_forward_hook(mix)
    sharing = prefix_sharing(model)
    assert not sharing.ok
    assert "differ" in sharing.reason
    asked = requests(420, n=2)
    assert score_requests(model, asked, sharing).logprob == pytest.approx([truth(model, r) for r in asked], abs=1e-4)


def test_the_steel_llm_architecture_is_never_shared():
    """Its soft mixture of experts sees later tokens; fresh weights hide that, so the trial alone would let it pass."""
    steel = pytest.importorskip("steel_train.models.steel")
    config = steel.SteelConfig(
        vocab_size=200,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
    )
    model = steel.SteelForCausalLM(config).eval()
    sharing = prefix_sharing(model)
    assert not sharing.ok
    assert "soft mixture" in sharing.reason
    asked = requests(200, n=2)
    assert score_requests(model, asked, sharing).logprob == pytest.approx([truth(model, r) for r in asked], abs=1e-4)


def test_sixteen_bits_stay_near_full_precision(toy_tokenizer):
    model = toys.model(len(toy_tokenizer))
    asked = requests(420, n=6)
    full = score_requests(model, asked).logprob
    assert score_requests(model.to(torch.bfloat16), asked).logprob == pytest.approx(full, abs=0.5)


def test_nan_logits_stay_nan(toy_tokenizer):
    model = toys.model(len(toy_tokenizer), tie_word_embeddings=False)
    model.lm_head.weight.data[7] = float("nan")
    asked = requests(420, n=2)
    assert np.isnan(score_requests(model, asked).logprob).all()


def test_logits_are_made_only_where_a_token_is_scored(toy_model):
    asked = requests(420, n=8)
    plan = make_plan(asked)
    rows, sharing = [], prefix_sharing(toy_model)
    handle = toy_model.lm_head.register_forward_hook(lambda module, args, output: rows.append(output.shape[1]))
    score_plan(toy_model, plan, asked, sharing)
    handle.remove()
    assert sum(rows) == len(set(plan.pair_node_E.tolist())) < plan.forwarded_tokens / 3


@pytest.mark.parametrize("roots", [1, 3])
@pytest.mark.parametrize("kind", ["shared", "plain"])
def test_what_goes_on_after_a_kill_is_bit_for_bit_what_never_stopped(toy_model, kind, roots, monkeypatch):
    """Other shapes round otherwise, so the passes that hold the cached path are made again as they were, and no other."""
    monkeypatch.setattr(scorer, "CPU_BUDGET", 24)
    asked = requests(420, n=8, stem=30)
    asked = [Request([i % roots, *r.tokens], r.start + 1) for i, r in enumerate(asked)]
    plan, sharing = make_plan(asked), Sharing(kind == "shared")
    whole = Partial.none(len(asked))
    before = [copy.deepcopy(s) for s in score_passes(toy_model, plan, asked, sharing, whole)]
    assert len(before) > 8 and whole.done.all()
    assert np.array_equal(whole.logprob, score_plan(toy_model, plan, asked, sharing).logprob)
    passes = []
    monkeypatch.setattr(scorer, "_forward", lambda *a, real=scorer._forward: passes.append(1) or real(*a))
    for state in before:
        left, made = len(before) - state.passes, len(passes)
        for _ in score_passes(toy_model, plan, asked, sharing, state):
            pass
        assert np.array_equal(state.logprob, whole.logprob) and np.array_equal(state.greedy, whole.greedy)
        assert kind == "plain" or len(passes) - made <= left + 6
