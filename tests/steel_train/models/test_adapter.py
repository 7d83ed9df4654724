"""PEFT's configuration of a run's adapter, and what its wrappers hide."""

from peft import get_peft_model
from tests.steel_train.toys import model

from steel_train.models.adapter import adapter, show_bias
from steel_train.settings import Settings

IDS = [390, 391]


def test_all_weights_have_no_adapter_and_an_adapter_all_linear_layers():
    assert adapter(Settings(model="m"), model(), []) is None
    made = adapter(Settings(model="m", method="lora", lora={"rank": 4, "dora": True}), model(), [])
    assert (made.r, made.use_dora, made.target_modules, made.trainable_token_indices) == (4, True, "all-linear", None)


def test_what_is_trained_whole_has_no_rows_apart():
    net, lora = model(), {"modules_to_save": ["embed_tokens", "lm_head"]}
    made = adapter(Settings(model="m", method="lora", lora=lora), net, IDS)
    assert not made.trainable_token_indices
    made = adapter(Settings(model="m", method="lora"), net, IDS)
    assert made.trainable_token_indices == {"embed_tokens": IDS, "lm_head": IDS}


def test_the_head_of_new_tokens_says_its_bias():
    net = get_peft_model(model(), adapter(Settings(model="m", method="lora"), model(), IDS))
    show_bias(net)
    assert net.get_base_model().get_output_embeddings().bias is None
    show_bias(model())  # nothing to say
