"""A tiny tokenizer, tiny models, small mixtures: what many tests of steel_train share."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from steel_data.build import build
from steel_data.recipe.load import load
from steel_train.examples.tokenizer import CHATML, train_tokenizer

QWEN3_LIKE = """{%- for message in messages -%}
{%- set ns = namespace(last=0) -%}
{%- for m in messages -%}{%- if m.role == 'user' -%}{%- set ns.last = loop.index0 -%}{%- endif -%}{%- endfor -%}
{%- if message.role == 'assistant' -%}
{%- set reasoning = '' -%}{%- set content = message.content -%}
{%- if message.reasoning_content is string -%}{%- set reasoning = message.reasoning_content -%}
{%- elif '</think>' in content -%}
{%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') -%}
{%- set content = content.split('</think>')[-1].lstrip('\\n') -%}
{%- endif -%}
{%- if loop.index0 > ns.last -%}
{{- '<|im_start|>assistant\\n<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') -}}
{%- else -%}{{- '<|im_start|>assistant\\n' + content -}}{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- else -%}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
# trims every text, has no end token after a user turn, and marks no generation (as Llama 2 and Mistral do)
INST = """{%- for message in messages -%}
{%- if message.role == 'user' -%}{{- '[INST] ' + message.content.strip() + ' [/INST]' -}}
{%- elif message.role == 'assistant' -%}{{- ' ' + message.content.strip() + ' ' + eos_token -}}{%- endif -%}
{%- endfor -%}"""
PLAIN = """{%- for message in messages -%}
{{- {'user': 'Q: ', 'assistant': 'A: ', 'system': 'S: '}[message.role] + message.content + '\\n' -}}
{%- endfor -%}{%- if add_generation_prompt -%}{{- 'A: ' -}}{%- endif -%}"""

_TEXTS = [
    "请说明水壶的用途。",
    "水壶用来装水。",
    "What is a kettle for?",
    "It boils water.",
    "A. 东山\nB. 西河\n答案为B。",
]


@lru_cache
def _tokenizer_folder() -> str:
    import tempfile

    folder = tempfile.mkdtemp(prefix="steel-tokenizer-")
    train_tokenizer(_TEXTS * 3, 400, Path(folder))
    return folder


def tokenizer(template: str = CHATML) -> Any:
    """Return a 400-token byte-level tokenizer with a chat template."""
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(_tokenizer_folder())
    loaded.chat_template = template
    return loaded


def model(attention: str = "sdpa", vocab: int = 400, kind: str = "qwen2", layers: int = 2) -> Any:
    """Return a two-layer model of 32 dimensions in float32, always with the same weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from steel_train.models.attention import register_attention

    register_attention()
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind, hidden_size=32, num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64,
        vocab_size=vocab, max_position_embeddings=512, **({"head_dim": 8} if kind == "qwen3" else {}),
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention)


def rows(count: int, sources: tuple[str, ...] = ("a", "b")) -> list[dict[str, Any]]:
    """Return mixture-like rows of uneven length."""
    made = []
    for i in range(count):
        answer = f"第{i}题的答案是{'甲乙丙丁'[i % 4]}。" + "水壶用来装水。" * (i * 7 % 5)
        messages = [{"role": "user", "content": f"请回答第{i}题。"}, {"role": "assistant", "content": answer}]
        if i % 3 == 0:
            messages += [{"role": "user", "content": "为什么？"}, {"role": "assistant", "content": f"因为{i}。"}]
        made.append(
            {"id": f"{i:032x}", "copy": 0, "source": sources[i % len(sources)], "kind": "chat", "messages": messages}
        )
    return made


def write_pairs(file: Path, count: int) -> None:
    """Write pairs of answers as LLaMA-Factory has them: the chosen one short, the rejected one of three lengths."""
    pairs = [
        {"conversations": [{"from": "human", "value": f"第{i}题？"}],
         "chosen": {"from": "gpt", "value": f"好答案{i}"}, "rejected": {"from": "gpt", "value": "不知道" * (1 + i % 3)}}
        for i in range(count)
    ]  # fmt: skip
    file.write_text(json.dumps(pairs, ensure_ascii=False), encoding="utf-8")


def write_mixture(folder: Path, count: int = 40, **more: str) -> Path:
    """Build a mixture of `count` alpaca rows in `folder`/mixture from a recipe in `folder`; `more`: source -> JSON lines."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"instruction": f"请回答第{i}题：{'水壶' * (i % 9)}？", "input": "", "output": f"答案{i}" + "甲乙丙丁。" * (i % 6)},
                   ensure_ascii=False) for i in range(count)
    ]  # fmt: skip
    (folder / "chat.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    recipe = folder / "data.toml"
    recipe.write_text(
        'seed = 1\n[source.chat]\npath = "chat.jsonl"\n[source.identity]\nbuild = { use = "identity", name = "小钢", team = "炼钢" }\ntake = 40\n',
        encoding="utf-8",
    )
    build(load(recipe), out=folder / "mixture", cache=folder / "cache")
    return folder / "mixture"
