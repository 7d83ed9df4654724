"""`[train]` of a recipe -> Settings. Every key is a field below; docs/training.md is checked against this file."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from steel_data.errors import InputError
from steel_data.recipe.first_fault import first_fault
from steel_data.recipe.strict import Table

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(ge=0, strict=False)]
PositiveRate = Annotated[float, Field(gt=0, strict=False)]


# Keys that recipes could not have when there were runs already. Absent from a run's record they had their defaults.
_LATER = (
    "chat_template_kwargs",
    "overlong",
    "eval",
    "dtype",
    "optimizer",
    "min_lr_ratio",
    "neftune_alpha",
    "freeze",
    "orpo",
    "simpo",
    "kto",
    "new_tokens",
    "new_special_tokens",
    "loss",
    "parent",
)


class Lora(Table):
    """`[train.lora]`: the adapter of `method = "lora"`."""

    rank: Positive = Field(default=16, description="Rank of the update matrices.")
    alpha: Positive = Field(default=32, description="Scale of the update: alpha / rank.")
    dropout: Annotated[float, Field(ge=0, lt=1, strict=False)] = Field(
        default=0.0, description="Dropout on the adapter's input."
    )
    targets: list[str] | None = Field(
        default=None,
        description="Names of the layers that get an adapter (`embed_tokens` may be one); by default every linear "
        "layer but the head.",
    )
    modules_to_save: list[str] | None = Field(
        default=None, description="Names of modules that are trained whole beside the adapter, such as `lm_head`."
    )
    dora: bool = Field(default=False, description="Learn the length of each weight apart from its direction (DoRA).")
    rslora: bool = Field(default=False, description="Scale by alpha / sqrt(rank): for high ranks (rsLoRA).")
    quantize: Literal["nf4"] | None = Field(
        default=None,
        description="Hold the frozen base in 4 bits (QLoRA); needs a CUDA device and bitsandbytes.",
    )


class Dpo(Table):
    """`[train.dpo]`: the loss of `method = "dpo"` (Rafailov et al. 2023, arXiv 2305.18290)."""

    beta: PositiveRate = Field(default=0.1, description="Strength of the pull towards the reference model.")


class Orpo(Table):
    """`[train.orpo]`: the loss of `method = "orpo"` (Hong et al. 2024, arXiv 2403.07691); it needs no reference."""

    beta: PositiveRate = Field(default=0.1, description="Weight of the odds ratio beside the chosen answer's loss.")


class Simpo(Table):
    """`[train.simpo]`: the loss of `method = "simpo"` (Meng et al. 2024, arXiv 2405.14734); it needs no reference."""

    beta: PositiveRate = Field(default=2.0, description="Scale of the mean log-likelihood of a token.")
    gamma: Rate = Field(default=1.0, description="By how much the scaled mean of the chosen answer is to win.")


class Kto(Table):
    """`[train.kto]`: the loss of `method = "kto"` (Ethayarajh et al. 2024, arXiv 2402.01306, equation 7)."""

    beta: PositiveRate = Field(default=0.1, description="Strength of the pull towards the reference model.")
    desirable_weight: PositiveRate = Field(default=1.0, description="Weight of the answers judged good.")
    undesirable_weight: PositiveRate = Field(default=1.0, description="Weight of the answers judged bad.")


class Eval(Table):
    """`[train.eval]`: rows that are held out of training, and how often their loss is looked at."""

    rows: Positive | None = Field(
        default=None, description="So many rows are held out: those of the lowest hash. Or `share`."
    )
    share: Annotated[float, Field(gt=0, le=0.5, strict=False)] | None = Field(
        default=None,
        description="This share of the rows is held out, by a hash of the row's text alone: an arm with other rows or "
        "another seed holds out the same ones. By default 0.01, where `rows` is not given.",
    )
    every: Positive | None = Field(
        default=None,
        description="Steps between two looks, besides those at each checkpoint; by default as few as cost at most 3 % "
        "of the time.",
    )
    early_stopping: Positive | None = Field(
        default=None,
        description="Stop after so many looks in a row without a new lowest loss. Each new lowest is then a "
        "checkpoint, of which the best is kept.",
    )
    tasks: list[str] = Field(
        default_factory=list,
        description='Tasks of steel_eval, scored at each look on the model in memory: `["ceval", "cmmlu-dev"]`. A test '
        "split is refused.",
    )
    shots: Annotated[int, Field(ge=0)] = Field(default=0, description="Worked examples before each question.")
    limit: Positive | None = Field(
        default=None, description="Of each subject of a task so many questions at most, as in `score`; by default all."
    )
    prompts: list[str] = Field(
        default_factory=list, description="Questions that are answered (greedily, 64 tokens) at each look, in the log."
    )

    @model_validator(mode="after")
    def _one_size(self) -> "Eval":
        if self.rows is not None and self.share is not None:
            raise ValueError("rows and share are two sizes of one thing. Fix: one of them")
        if len(set(self.tasks)) < len(self.tasks):
            raise ValueError("tasks: one stands twice. Fix: each once")
        return self


class Settings(Table):
    """`[train]`: what is trained, on how much, and how often it is kept."""

    model: str | dict[str, Any] = Field(
        examples=['"Qwen/Qwen2.5-0.5B", a folder, or a table'],
        description="A folder (absolute, or relative to the recipe), a hub id, or a table for a model from scratch: "
        '`{ type = "qwen2", hidden_size = 256, … }`, its keys being those of the config class of transformers.',
    )
    tokenizer: str | None = Field(
        default=None,
        description="A folder, relative to the recipe, or a hub id; by default the model's own. A model from scratch "
        "without one gets a byte-level BPE of `vocab_size` entries, trained on the mixture.",
    )
    chat_template: str | None = Field(
        default=None,
        description='A Jinja file, relative to the recipe, or `"chatml"`; by default the tokenizer\'s own.',
    )
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="Values of the template's own variables: `{ enable_thinking = false }`. They go into the template "
        "of the checkpoint, so that it is asked as it was trained.",
    )
    new_tokens: list[str] = Field(
        default_factory=list,
        description="Texts that become tokens of their own; their embeddings begin as the mean of the known ones.",
    )
    new_special_tokens: list[str] = Field(
        default_factory=list, description="The same for tokens of control, which are no text: a marker of a template."
    )
    parent: str | None = Field(
        default=None,
        description="The folder of a finished run that this one extends by more `epochs` or `max_steps` and nothing "
        "else: it begins with its last checkpoint and optimiser. Relative to the recipe, or where you stand.",
    )
    seeds: list[int] | None = Field(
        default=None, description="One run folder each: `runs/<name>/seed-1`, …; absent: one run in `runs/<name>`."
    )
    epochs: Positive = Field(default=3, description="How often each row is seen.")
    max_steps: Positive | None = Field(default=None, description="Stop after so many steps (short trials).")
    learning_rate: PositiveRate = Field(default=2e-5, description="Peak learning rate.")
    schedule: Literal["cosine", "linear", "constant", "wsd"] = Field(
        default="cosine",
        description="How the learning rate falls after the warm-up; wsd: it stays, and falls in the last tenth.",
    )
    min_lr_ratio: Annotated[float, Field(ge=0, lt=1, strict=False)] = Field(
        default=0.0, description="Share of the peak to which it falls (cosine, wsd)."
    )
    warmup: Annotated[float, Field(ge=0, lt=1, strict=False)] = Field(
        default=0.03, description="Share of the steps in which the learning rate rises from 0."
    )
    weight_decay: Rate = Field(default=0.0, description="Decoupled weight decay (matrices only).")
    neftune_alpha: PositiveRate | None = Field(
        default=None, description="Noise on the embeddings in training (NEFTune, arXiv 2310.05914): 5 is usual."
    )
    freeze: list[str] = Field(
        default_factory=list,
        description='Patterns of names of weights that do not learn, such as `"model.embed_tokens.*"`, '
        '`"model.layers.[0-3].*"`.',
    )
    max_grad_norm: Rate = Field(default=1.0, description="The gradient is scaled down to this norm; 0: never.")
    micro_batch: Positive = Field(
        default=8, description="Rows a process takes at once; with packing, the room of as many rows of `max_length`."
    )
    accumulate: Positive = Field(
        default=8, description="Micro batches a step. A step is micro_batch x accumulate x processes rows."
    )
    max_length: Annotated[int, Field(ge=8)] = Field(default=2048, description="Tokens an example may have.")
    overlong: Literal["cut", "drop", "split"] = Field(
        default="cut",
        description="What becomes of a longer row: cut at `max_length`, dropped, or split into several examples "
        "(preference rows are then dropped). Counted by the pre-flight.",
    )
    loss: Literal["assistant", "all"] = Field(
        default="assistant",
        description="What is learnt: what the assistant writes, or every token of the rendered row but its first, as "
        "in pre-training. `[source.x] loss` says it for one source.",
    )
    packing: bool | None = Field(
        default=None,
        description="Lay the rows of a step end to end instead of padding them; the same rows make a step either "
        "way. By default on where the model can keep rows apart.",
    )
    save_every: Positive | None = Field(
        default=None, description="Checkpoint every so many steps, besides those at epoch ends."
    )
    keep: Positive | None = Field(
        default=None, description="Keep only the newest so many checkpoints, and those at epoch ends; by default all."
    )
    log_every: Positive = Field(default=10, description="Steps between two lines of `metrics.jsonl`.")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        default="auto",
        description="bf16 computes in bfloat16 over float32 weights; auto is bf16 on GPUs that have it, else fp32.",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Type of the weights. auto: float32 where they learn, an adapter's frozen base in its own type "
        "where the run computes in bf16; checkpoints in the base's type. float32, bfloat16: all of them.",
    )
    optimizer: Literal["adamw", "adamw_8bit", "adafactor", "lion", "muon"] = Field(
        default="adamw",
        description="adamw_8bit needs a CUDA device and bitsandbytes. lion takes a third to a tenth of AdamW's "
        "learning rate; muon the same, and moves hidden matrices only: the rest is AdamW's. To be named where `dtype` "
        "is bfloat16 and all weights learn: bfloat16 has 8 bits, and an update below 1/256 of a weight is lost.",
    )
    method: Literal["full", "lora", "dpo", "orpo", "simpo", "kto", "pretrain"] = Field(
        default="full",
        description="All weights, an adapter; DPO, ORPO or SimPO on preference rows, KTO on answers judged good or "
        "bad; or pre-training on documents in blocks of `max_length` (all weights, or an adapter where `[train.lora]` "
        "is given).",
    )
    lora: Lora | None = Field(default=None, description="Settings of the adapter.")
    dpo: Dpo = Field(default_factory=Dpo, description="Settings of DPO.")
    orpo: Orpo = Field(default_factory=Orpo, description="Settings of ORPO.")
    simpo: Simpo = Field(default_factory=Simpo, description="Settings of SimPO.")
    kto: Kto = Field(default_factory=Kto, description="Settings of KTO.")
    eval: Eval | None = Field(default=None, description="Rows held out, to look at while it trains; absent: none.")
    kernels: Literal["auto", "triton", "torch"] = Field(
        default="auto",
        description="Fused kernels: `triton` (an error without a GPU) or `torch`; auto is torch on a CPU, and on a GPU "
        "what was measured faster there (docs/kernels.md).",
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Recompute activations in the backward pass: less memory, about a fifth slower."
    )
    resume: Literal["auto", "never"] = Field(
        default="auto",
        description="Go on from the newest checkpoint of this run, or refuse a folder that has one.",
    )
    report_to: str | list[str] = Field(
        default="none", description="Also log to `trackio`, `wandb`, `tensorboard`, `swanlab`, … (TRL's report_to)."
    )

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int] | None) -> list[int] | None:
        if seeds is not None and (not seeds or len(set(seeds)) != len(seeds)):
            raise ValueError(f"seeds = {seeds}: a seed stands twice, or none does. Fix: seeds = [1, 2, 3]")
        return seeds

    @field_validator("chat_template_kwargs")
    @classmethod
    def _plain(cls, values: dict[str, Any]) -> dict[str, Any]:
        try:
            json.dumps(values, allow_nan=False)
        except TypeError:
            raise ValueError('chat_template_kwargs: holds a date or time. Fix: a text such as "1 Jan 2026"') from None
        except ValueError:  # inf or nan, which a template would take for a variable that nobody set
            raise ValueError("chat_template_kwargs: holds inf or nan. Fix: a finite number") from None
        return values

    @field_validator("new_tokens", "new_special_tokens")
    @classmethod
    def _tokens(cls, tokens: list[str]) -> list[str]:
        for token in tokens:
            if not token.strip() or tokens.count(token) > 1:
                raise ValueError(f"new tokens: {token!r} is empty or stands twice. Fix: each text once")
        return tokens

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        if isinstance(self.model, dict):
            if not isinstance(self.model.get("type"), str):
                raise ValueError('model: a table without type. Fix: model = { type = "qwen2", hidden_size = 256, … }')
            if self.uses_lora:
                raise ValueError("method = 'lora' on a model from scratch has nothing to adapt. Fix: method = 'full'")
        for token in sorted(set(self.new_tokens) & set(self.new_special_tokens)):
            raise ValueError(f"new tokens: {token!r} is text and of control at once. Fix: in one of the two lists")
        if self.dtype == "bfloat16" and self.precision == "fp32":
            raise ValueError("dtype = 'bfloat16' computes in bf16. Fix: without precision, or dtype = 'auto'")
        if self.dtype == "bfloat16" and not self.uses_lora and "optimizer" not in self.model_fields_set:
            raise ValueError("dtype = 'bfloat16' loses small updates. Fix: name the optimizer, or dtype = 'auto'")
        if self.min_lr_ratio and self.schedule not in ("cosine", "wsd"):
            raise ValueError(f"min_lr_ratio does nothing with schedule = '{self.schedule}'. Fix: 'cosine' or 'wsd'")
        if self.freeze and self.uses_lora:
            raise ValueError("freeze: under an adapter all weights are frozen. Fix: [train.lora] targets")
        if self.method == "pretrain":
            for name in sorted({"loss", "overlong"} & self.model_fields_set):
                raise ValueError(
                    f"{name} does nothing with method = 'pretrain', which learns all of every document. Fix: without it"
                )
        if self.loss == "all" and self.form != "messages":
            raise ValueError(
                f"loss = 'all' does nothing with method = '{self.method}', which compares answers. Fix: 'assistant'"
            )
        if self.lora is not None and self.method == "full":
            raise ValueError("[train.lora] is given, but method is 'full'. Fix: method = 'lora'")
        return self

    @property
    def compares(self) -> bool:
        """Return whether pairs of answers are learnt from, not single ones."""
        return self.method in ("dpo", "orpo", "simpo")

    @property
    def form(self) -> str:
        """Return the form of the rows that are learnt from: "messages", "preference" or "kto"."""
        return "preference" if self.compares else "kto" if self.method == "kto" else "messages"

    @property
    def uses_lora(self) -> bool:
        """Return whether an adapter is trained instead of the weights."""
        return self.method == "lora" or self.lora is not None


def read_settings(table: dict[str, Any], recipe: Path) -> Settings:
    """Check the `[train]` table of a recipe. Raises InputError that names the key and the nearest known word."""
    if not table:
        raise InputError(f'{recipe} [train]: is missing. Fix: at least model = "Qwen/Qwen2.5-0.5B".')
    try:
        return Settings.model_validate(table)
    except ValidationError as error:
        raise InputError(first_fault(recipe, ("train",), error, Settings)) from None


def completed(record: dict[str, Any]) -> dict[str, Any]:
    """Return a run's record of `[train]` with the keys that an earlier steel did not have, at their defaults."""
    later = {name: Settings.model_fields[name].get_default(call_default_factory=True) for name in _LATER}
    tables = {name: table().model_dump() | record[name] for name, table in _TABLES.items() if record.get(name)}
    return later | record | tables


# with all keys at their defaults each of these is a valid table
_TABLES: dict[str, type[Table]] = {"lora": Lora, "dpo": Dpo, "orpo": Orpo, "simpo": Simpo, "kto": Kto, "eval": Eval}
