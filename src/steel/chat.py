"""`steel chat`: talk to a checkpoint in the terminal, word by word as it writes.

The model is opened as `score` opens it: the same strict loader, chat template and switches. Ctrl-C ends an answer, and
at the prompt the talk.
"""

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steel_data.engine import tell
from steel_data.errors import InputError, first_line, one_line, visible
from steel_eval.models import AS_SAVED, Loaded, Opening, default_device, find_checkpoints, load

HELP = "/reset begins anew, /system TEXT sets a system prompt and begins anew, /exit or Ctrl-D ends"


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How answers are written. `temperature` 0: always the likeliest word. `new_tokens`: of one answer, at most."""

    system: str = ""
    temperature: float = 0.7
    top_p: float = 0.9
    new_tokens: int = 1024
    seed: int | None = None

    def __post_init__(self) -> None:
        """Raise InputError for values that no answer can be written with."""
        if self.temperature < 0:
            raise InputError(f"--temperature {self.temperature:g}: Fix: 0 (always the likeliest word) or more.")
        if not 0 < self.top_p <= 1:
            raise InputError(f"--top-p {self.top_p:g}: Fix: above 0, at most 1.")


def chat(place: str, manner: Manner, device: str | None = None, dtype: str = "auto", how: Opening = AS_SAVED) -> None:
    """Talk to a checkpoint, or to the last one of a run, until the input ends.

    Raises InputError for what cannot be loaded, and for a model without a chat template.
    """
    checkpoint = find_checkpoints(place, how.revision)[0][-1]
    loaded = load(checkpoint.folder, device or default_device(), dtype, how)
    if not loaded.tokenizer.chat_template:
        raise InputError(
            f"{checkpoint.folder}: no chat template, so nobody can say where an answer begins and ends. "
            "Fix: a model that was trained on conversations, or --tokenizer of one."
        )
    if manner.seed is not None:
        import torch

        torch.manual_seed(manner.seed)
    tell(f"{one_line(checkpoint.name)}, up to {loaded.max_length:,} tokens. {HELP}")
    before = signal.signal(signal.SIGINT, _cut)
    try:
        _talk(loaded, manner)
    finally:
        signal.signal(signal.SIGINT, before)


def _talk(loaded: Loaded, manner: Manner) -> None:
    """Ask and answer until the input ends, or Ctrl-C comes where nothing is written."""
    turns = _begun(manner.system)
    while True:
        try:
            said = input("> " if sys.stdin.isatty() else "").strip()
        except (EOFError, KeyboardInterrupt):
            tell("\nended")
            return
        command, _, rest = said.partition(" ")
        if command in ("/exit", "/quit"):
            tell("ended")
            return
        if command in ("/reset", "/system"):
            turns = _begun(rest.strip() if command == "/system" else manner.system)
            tell("begun anew")
        elif command.startswith("/") and command[1:].isalpha():
            tell(f"{command}: no such command. {HELP}")
        elif said:
            turns = _with_answer(loaded, [*turns, {"role": "user", "content": said}], manner)


def _cut(number: int, frame: object) -> None:
    """Take Ctrl-C as Python does; but who has a handler of its own is not ended because it goes on."""
    raise KeyboardInterrupt


def _begun(system: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": system}] if system else []


def _with_answer(loaded: Loaded, turns: list[dict[str, str]], manner: Manner) -> list[dict[str, str]]:
    """Write the answer to the last turn, and return the turns with it; without the last one where none is possible."""
    kept = list(turns)
    while True:
        prompt = _prompt(loaded, kept)
        room = loaded.max_length - prompt["input_ids"].shape[1]
        if room > 0:
            break
        first = 1 if kept[0]["role"] == "system" else 0
        if len(kept) - first < 3:
            tell(f"this is longer than the model's {loaded.max_length:,} tokens; nothing was asked")
            return turns[:-1]
        del kept[first : first + 2]
    if len(kept) < len(turns):
        tell(f"the first {len(turns) - len(kept)} turns no longer fit and are left out")
    text = _written(loaded, prompt, min(room, manner.new_tokens), manner)
    return [*kept, {"role": "assistant", "content": text}]


def _prompt(loaded: Loaded, turns: Sequence[dict[str, str]]) -> Any:
    try:
        return loaded.tokenizer.apply_chat_template(
            list(turns), add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
    except Exception as error:  # a template may refuse a system prompt, or anything
        raise InputError(
            f"{loaded.folder}: its chat template refuses these turns: {first_line(error)}. "
            "Fix: without --system, or /new."
        ) from error


def _written(loaded: Loaded, prompt: Any, new_tokens: int, manner: Manner) -> str:
    """Return the answer, which was printed as it came; Ctrl-C leaves what was written so far."""
    import torch
    from transformers import TextStreamer

    tokenizer, pieces = loaded.tokenizer, []

    class Shown(TextStreamer):
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            pieces.append(text)
            sys.stdout.write(visible(text) + ("\n" if stream_end else ""))
            sys.stdout.flush()

    sampled = manner.temperature > 0
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0
    named: Any = getattr(loaded.model.generation_config, "eos_token_id", None)
    ends = {*(named if isinstance(named, list) else [named]), tokenizer.eos_token_id} - {None}
    try:
        with torch.inference_mode():
            loaded.model.generate(  # type: ignore[operator]
                **prompt.to(loaded.model.device), max_new_tokens=new_tokens, pad_token_id=pad,
                eos_token_id=sorted(ends) or None, do_sample=sampled, top_k=None, repetition_penalty=1.0,
                temperature=manner.temperature if sampled else None, top_p=manner.top_p if sampled else None,
                streamer=Shown(tokenizer, skip_prompt=True, skip_special_tokens=True),  # type: ignore[no-untyped-call]
            )  # fmt: skip
    except KeyboardInterrupt:
        tell("\n(cut off)")
    return "".join(pieces).strip()
