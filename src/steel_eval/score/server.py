"""Answers from an OpenAI-like server: the right model, the right tokens, and patience with what fails.

`openai:URL` asks `/completions`. The prompt goes as text where the server's tokenizer (the checkpoint's own) makes of
it the very tokens that transformers would get, without the first token that it adds itself; else as token ids.
`openai-chat:URL` asks `/chat/completions`: the server renders the turns by its own template. A key is taken from
OPENAI_API_KEY. What is asked of the server's `/models` is which model it serves; `URL#ID` names one of several.

A question whose answer never came is None, never a text: it is counted as missing, and the next run asks it again.
"""

import json
import os
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path
from typing import Any

from steel_data.engine import tell
from steel_data.errors import InputError, excerpt, first_line
from steel_eval.models import Checkpoint, checkpoint_fingerprint, is_checkpoint

KINDS = ("openai", "openai-chat")
AT_ONCE = 8  # questions
ATTEMPTS = 6
WAIT = 1.0  # seconds before the second attempt; doubled each time, or what the server asks for
LONGEST_WAIT = 60.0
TIMEOUT = 600.0
GIVE_UP = 8  # questions in a row that failed at every attempt: the server is gone, the others are not waited for
_PASSING = (408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529)

Answer = tuple[str, bool] | None  # text, whether it ended by itself; None: it never came


@dataclass(frozen=True)
class Served:
    """A model that a server offers under an id."""

    kind: str
    url: str
    id: str


class _FailedError(Exception):
    """One attempt did not give an answer; another may."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def is_server(generator: str) -> bool:
    """Return whether a generator is a server."""
    return generator.partition(":")[0] in KINDS


def refuse_several(generator: str, checkpoints: Sequence[Checkpoint], watching: bool = False) -> None:
    """Raise InputError where a server, which serves one model, is to answer for several checkpoints."""
    if is_server(generator) and (watching or len(checkpoints) > 1):
        names = ", ".join(c.name for c in checkpoints[:3]) + (", …" if len(checkpoints) > 3 else "")
        raise InputError(
            f"--generator {generator}: a server serves one model, and this is a run ({excerpt(names)}). "
            "Fix: the checkpoint that it serves, in place of the run."
        )


@lru_cache(maxsize=8)
def served(generator: str, folder: Path, fingerprint: str) -> Served:
    """Return the model of a server that stands for a checkpoint (its weights' fingerprint), as `/models` lists it.

    The one that is named (`URL#ID`), else the one whose id or root is the checkpoint's, else the only one, which is
    said. Raises InputError where none or several may be meant, or where the server's root holds other weights.
    """
    kind, _, rest = generator.partition(":")
    url, _, named = rest.partition("#")
    url = url.rstrip("/")
    if kind not in KINDS or not url.startswith(("http://", "https://")):
        raise InputError(f"--generator {generator}: no address. Fix: {kind}:http://host:8000/v1.")
    try:
        told = _call(f"{url}/models", None, 30.0)
    except _FailedError as error:
        raise InputError(
            f"{url}/models: the server does not answer as expected: {error}. Fix: an OpenAI-like one."
        ) from None
    rows = told.get("data") if isinstance(told, dict) else None
    models = {str(m["id"]): m for m in rows or [] if isinstance(m, dict) and isinstance(m.get("id"), str)}
    if not models:
        raise InputError(f"{url}/models: lists no model. Fix: an OpenAI-like server with a model.")
    mine = [name for name, model in models.items() if _stands_for(name, model, folder)]
    chosen = named or (mine[0] if len(mine) == 1 else next(iter(models)) if len(models) == 1 else "")
    if chosen not in models:
        what = f"serves no '{excerpt(named, 60)}'" if named else "serves several models"
        raise InputError(f"{url}: {what}. Fix: {kind}:{url}#ID with one of {excerpt(', '.join(models), 200)}.")
    root = Path(str(models[chosen].get("root") or ""))
    if root.is_absolute() and is_checkpoint(root) and root.resolve() != folder.resolve():
        if checkpoint_fingerprint(root) != fingerprint:
            raise InputError(f"{url}: serves {root}, which has other weights than {folder}. Fix: the same.")
    elif chosen not in mine:
        tell(f"{url} serves '{excerpt(chosen, 80)}', which is taken for {folder}: a name proves no weights.")
    return Served(kind, url, chosen)


def _stands_for(name: str, model: dict[str, Any], folder: Path) -> bool:
    own = {folder.as_posix(), folder.absolute().as_posix(), folder.resolve().as_posix(), folder.name}
    return bool({name, str(model.get("root"))} & own) or name.rsplit("/", 1)[-1] == folder.name


def as_sent(ids: Sequence[int], tokenizer: Any) -> str | list[int]:
    """Return a prompt for `/completions`: its text without a first token that the server adds itself, else its ids.

    The text, where the tokenizer makes just these ids of it.
    """
    own = list(ids)
    added = tokenizer("", add_special_tokens=True)["input_ids"]
    bare = own[1:] if own and own[0] == tokenizer.bos_token_id and own[0] in added[:1] else own
    text = str(tokenizer.decode(bare))
    return text if tokenizer(text, add_special_tokens=True)["input_ids"] == own else own


def ask_server(
    model: Served, prompts: Sequence[Any], new_tokens: int, advance: Callable[[int], None] = lambda _: None
) -> list[Answer]:
    """Return the answers to prompts (texts or ids; for the chat endpoint: lists of turns), AT_ONCE questions at a time.

    None where none came. Raises InputError for what no other attempt would mend (a wrong key, a refused request).
    """
    chat = model.kind == "openai-chat"
    url = f"{model.url}/chat/completions" if chat else f"{model.url}/completions"
    lost, lock = [0], threading.Lock()

    def one(prompt: Any) -> Answer:
        body = {"model": model.id, "max_tokens": new_tokens, "temperature": 0}
        body |= {"messages": prompt} if chat else {"prompt": prompt}
        for attempt in range(ATTEMPTS):
            if lost[0] >= GIVE_UP:
                return None
            try:
                answer = _answer(_call(url, body, TIMEOUT), chat)
            except _FailedError as error:
                if attempt + 1 < ATTEMPTS:
                    wait = min(LONGEST_WAIT, WAIT * 2**attempt) * (0.5 + random.random() / 2)
                    time.sleep(wait if error.wait is None else min(LONGEST_WAIT, error.wait))
                continue
            with lock:
                lost[0] = 0
            advance(1)
            return answer
        with lock:
            lost[0] += 1
        return None

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(one, prompts))
    if missing := sum(answer is None for answer in answers):
        tell(f"{model.url}: {missing:,} of {len(prompts):,} answers never came; the next run asks for them again")
    return answers


def _answer(told: Any, chat: bool) -> tuple[str, bool]:
    """Read a reply. Raises _FailedError for one without a text."""
    try:
        choice = told["choices"][0]
        text = choice["message"]["content"] if chat else choice["text"]
        ended = choice.get("finish_reason") != "length"
    except (KeyError, IndexError, TypeError, AttributeError):
        raise _FailedError("a reply without an answer") from None
    if not isinstance(text, str):
        raise _FailedError("a reply without a text")
    return text, ended


def _call(url: str, body: dict[str, Any] | None, timeout: float) -> Any:
    """Return a reply's JSON. Raises _FailedError for what may pass, InputError for what will not."""
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get("OPENAI_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=timeout) as reply:
            return json.loads(reply.read())
    except urllib.error.HTTPError as error:
        if error.code in _PASSING:
            raise _FailedError(f"status {error.code}", _seconds(error.headers.get("Retry-After"))) from None
        key = "OPENAI_API_KEY with the key" if error.code in (401, 403) else "what it asks for"
        raise InputError(f"{url}: refuses the request: status {error.code}: {_reason(error)}. Fix: {key}.") from None
    except (OSError, HTTPException, ValueError, RecursionError) as error:  # cut bodies and lines that are no JSON, too
        raise _FailedError(first_line(error)) from None


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        return excerpt(error.read(2000).decode(errors="replace").strip(), 200) or error.reason
    except (OSError, HTTPException):
        return str(error.reason)


def _seconds(said: str | None) -> float | None:
    try:
        return max(0.0, float(said)) if said else None
    except ValueError:
        return None
