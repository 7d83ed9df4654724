"""The Steel architecture: the published function, its lack of causality, masks, cache, generation, loading."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from steel_train.models.steel import SteelConfig, SteelForCausalLM, SteelSoftMoE

# the keys of the config.json that is published with the weights, with small values
PUBLISHED_KEYS = {
    "architectures": ["Qwen2ForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 3,
    "eos_token_id": 4,
    "hidden_act": "silu",
    "hidden_size": 112,
    "initializer_range": 0.02,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
    "max_window_layers": 21,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 128,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 97,
    "n_experts": 6,
    "mlp_div_ratio": 4,
    "FFN_type": "softmoe_v3",
    "mlp_type": "senet",
    "slots_per_expert": 1,
}


def tiny(seed=0, **changes) -> SteelForCausalLM:
    torch.manual_seed(seed)
    model = SteelForCausalLM(SteelConfig(**(PUBLISHED_KEYS | {"torch_dtype": "float32"} | changes))).eval()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.scale.fill_(7.5)  # off the initial value, so that a forgotten scale shows
            for p in layer.mlp.experts.parameters():
                p.mul_(20)  # large enough for the gates to bend and the mixing to matter
    return model


def tokens(batch=2, length=9, seed=1) -> torch.Tensor:
    return torch.randint(5, 97, (batch, length), generator=torch.Generator().manual_seed(seed))


def by_the_paper(moe: SteelSoftMoE, x: torch.Tensor) -> torch.Tensor:
    """Soft-MoE v3 token by token and slot by slot, in float64, from the formula alone."""
    x = x.double() / x.double().norm(dim=2, keepdim=True)
    phi = moe.scale.double() * moe.phi.double() / moe.phi.double().norm(dim=0, keepdim=True)
    batch, length, _ = x.shape
    _, experts, slots = phi.shape
    y = torch.zeros_like(x)
    for b in range(batch):
        logits = torch.stack([(x[b, t][:, None, None] * phi).sum(0) for t in range(length)])
        dispatch = logits.exp() / logits.exp().sum(0, keepdim=True)
        combine = logits.exp() / logits.exp().sum((1, 2), keepdim=True)
        for e in range(experts):
            w = {n: p.double() for n, p in moe.experts[e].named_parameters()}
            for p in range(slots):
                slot = sum(dispatch[t, e, p] * x[b, t] for t in range(length))
                h = torch.nn.functional.silu(w["gate_up_proj.weight"] @ slot) * (w["up_proj.weight"] @ slot)
                out = torch.nn.functional.silu(w["gate_down_proj.weight"] @ h) * (w["down_proj.weight"] @ h)
                for t in range(length):
                    y[b, t] += combine[t, e, p] * out
    return y


@pytest.mark.parametrize("slots", [1, 3])
def test_soft_moe_is_the_published_function(slots):
    moe = tiny(slots_per_expert=slots).model.layers[0].mlp
    x = torch.randn(2, 5, 112, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(moe(x).double(), by_the_paper(moe, x), rtol=1e-5, atol=1e-7)


def test_config_takes_every_published_key_and_names_its_own_type():
    config = SteelConfig.from_dict(PUBLISHED_KEYS | {"model_type": "qwen2", "_attn_implementation": "sdpa"})
    assert config.model_type == "steel"
    assert config.rope_parameters["rope_theta"] == 1e6
    kept = set(PUBLISHED_KEYS) - {"architectures", "torch_dtype", "rope_theta", "sliding_window"}
    assert {k: getattr(config, k) for k in kept} == {k: PUBLISHED_KEYS[k] for k in kept}
    with pytest.raises(ValueError, match="softmoe_v2"):
        SteelConfig(FFN_type="softmoe_v2")


def test_defaults_are_the_published_model():
    with torch.device("meta"):
        model = SteelForCausalLM(SteelConfig())
    assert sum(p.numel() for p in model.parameters()) == 1_122_922_770
    shapes = {name: tuple(p.shape) for name, p in model.state_dict().items()}
    assert shapes["model.layers.17.mlp.phi"] == (1792, 6, 1)
    assert shapes["model.layers.17.mlp.scale"] == (1,)
    assert shapes["model.layers.17.mlp.experts.5.gate_up_proj.weight"] == (448, 1792)
    assert shapes["model.layers.17.mlp.experts.5.down_proj.weight"] == (1792, 448)
    assert shapes["model.layers.17.self_attn.q_proj.bias"] == (1792,)
    assert "model.layers.17.self_attn.o_proj.bias" not in shapes
    assert shapes["lm_head.weight"] == (151_936, 1792)


def test_the_last_token_changes_earlier_outputs():
    """Not causal, as published: whoever makes it causal makes another model."""
    model, ids = tiny(), tokens()
    with torch.no_grad():
        before = model(ids).logits
        ids[:, -1] = (ids[:, -1] + 1) % 97
        after = model(ids).logits
    change = (after - before)[:, :-1].norm() / before[:, :-1].norm()
    assert change > 1e-4


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_with_a_mask_changes_nothing(side):
    model, ids = tiny(), tokens(1, 7)
    pads = torch.full((1, 5), 0)
    ones, zeros = torch.ones(1, 7, dtype=torch.int64), torch.zeros(1, 5, dtype=torch.int64)
    padded, mask = (
        (torch.cat((pads, ids), 1), torch.cat((zeros, ones), 1))
        if side == "left"
        else (torch.cat((ids, pads), 1), torch.cat((ones, zeros), 1))
    )
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        alone = model(ids).logits
        together = model(padded, attention_mask=mask, position_ids=positions).logits[mask.bool()][None]
        unmasked = model(padded, position_ids=positions).logits[mask.bool()][None]
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
        # without the mask padding does change the result: the published behaviour
        assert not torch.allclose(unmasked, alone, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model(ids, attention_mask=ones).logits, alone)


def test_a_cached_step_dispatches_over_its_own_token_only():
    model, ids = tiny(), tokens(1, 6)
    with torch.no_grad():
        first = model(ids[:, :-1], use_cache=True)
        name = "cache" if "cache" in first else "past_key_values"
        step = model(ids[:, -1:], **{name: first[name]})
        whole = model(ids)
        moe = model.model.layers[0].mlp
        x = torch.randn(1, 1, 112)
        one = moe(x)
    assert step.logits.shape == (1, 1, 97)
    assert not torch.allclose(step.logits, whole.logits[:, -1:], rtol=1e-3, atol=1e-4)
    # one token: dispatch is 1, every slot is the token itself
    torch.testing.assert_close(one.double(), by_the_paper(moe, x), rtol=1e-5, atol=1e-7)


def test_generation_accepts_keywords_and_respects_the_mask():
    model, ids = tiny(), tokens(1, 6)
    alone = model.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0)
    padded = torch.cat((torch.zeros(1, 3, dtype=torch.int64), ids), 1)
    mask = torch.cat((torch.zeros(1, 3, dtype=torch.int64), torch.ones(1, 6, dtype=torch.int64)), 1)
    left = model.generate(padded, attention_mask=mask, max_new_tokens=4, do_sample=False, pad_token_id=0)
    assert left[:, 3:].tolist() == alone.tolist()


def test_gradient_checkpointing_changes_no_gradient():
    ids = tokens()
    grads = []
    for checkpointing in (False, True):
        model = tiny().train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(ids, labels=ids, attention_mask=torch.ones_like(ids)).loss.backward()
        grads.append([p.grad for p in model.parameters()])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


def test_loss_is_divided_by_num_items_in_batch():
    """Remote code without keyword arguments made gradient accumulation a mean of means."""
    model, ids = tiny(), tokens()
    one, other = model(ids, labels=ids, num_items_in_batch=16).loss, model(ids, labels=ids, num_items_in_batch=32).loss
    torch.testing.assert_close(one, 2 * other)


def test_saved_and_loaded_through_the_auto_classes(tmp_path):
    model, ids = tiny(), tokens()
    model.save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).model_type == "steel"
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(again) is SteelForCausalLM
    torch.testing.assert_close(again(ids).logits, model(ids).logits)


def test_warnings_name_what_the_architecture_cannot_do(caplog):
    from transformers.utils import logging

    logging.enable_propagation()
    logging.get_logger("steel_train.models.steel").warning_once.__func__.cache_clear()
    model, ids = tiny(), tokens()
    with caplog.at_level("WARNING"):
        model(ids, labels=ids)
        model.train()(ids, position_ids=torch.arange(9)[None])
    logging.disable_propagation()
    assert "generation" in caplog.text and "Keep one a row" in caplog.text
