"""lm-eval itself as the judge: its shipped task files over given items, its HFLM, without hub or network."""

from pathlib import Path

import lm_eval
import yaml
from datasets import Dataset, DatasetDict
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM

TASKS = Path(lm_eval.__file__).parent / "tasks"


def task(file: str, test: list, dev: list, shots: int, capital: bool) -> ConfigurableTask:
    """A shipped task (`cmmlu/cmmlu_agronomy.yaml`) over our items; `capital`: CMMLU's Question and Answer columns."""
    config = yaml.safe_load((TASKS / file).read_text(encoding="utf-8"))
    config |= {
        k: v
        for k, v in yaml.safe_load((TASKS / file).with_name(config.pop("include")).read_text()).items()
        if k not in config
    }
    names = ("Question", "Answer") if capital else ("question", "answer")

    def rows(items):
        return [
            {
                names[0]: i.question,
                **dict(zip("ABCD", i.options, strict=True)),
                names[1]: i.answer,
                "choices": list(i.options),
            }
            for i in items
        ]

    split = config.get("test_split") or config["validation_split"]
    config["custom_dataset"] = lambda **_: DatasetDict(
        {split: Dataset.from_list(rows(test)), "dev": Dataset.from_list(rows(dev))}
    )
    config["num_fewshot"] = shots
    config.pop("group", None), config.pop("tag", None), config.pop("task_alias", None)
    return ConfigurableTask(config=config)


def instances(built: ConfigurableTask) -> list:
    built.build_all_requests(rank=0, world_size=1)
    return built.instances


def hflm(model, tokenizer, batch_size: int = 4) -> HFLM:
    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, device="cpu", dtype="float32")
