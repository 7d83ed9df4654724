"""A unit's key in the store: whatever its results depend on makes another key, each input by itself."""

import copy
import shutil
from dataclasses import replace
from types import SimpleNamespace

import orjson
import pytest
import torch
from tests.steel_eval import toys

from steel_eval.ask.encode import Tokenised, make_units
from steel_eval.ask.tasks import limited, load_task
from steel_eval.models import checkpoint_fingerprint, load
from steel_eval.score import results
from steel_eval.score.generate import how_written
from steel_eval.score.likelihood import prefix_sharing
from steel_eval.score.results import Ready, code_fingerprint, key_of, submission
from steel_eval.score.store import Store
from steel_eval.tokenizer import switched


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toys.benchmarks(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def loaded(toy_checkpoint):
    return load(toy_checkpoint)


class Asked:
    """All inputs of one unit's results. A test changes one and asks for the key."""

    def __init__(self, data, loaded):
        self.data, self.name, self.subject, self.preset, self.shots = data, "cmmlu", "agronomy", "lm-eval", 2
        self.loaded, self.tokenizer, self.context, self.how = copy.copy(loaded), toys.tokenizer(), 2048, "likelihood"
        self.limit = self.room = None

    def unit(self):
        units = make_units(limited(load_task(self.name, self.data), self.limit), self.preset, self.shots, self.room)
        return next(u for u in units if u.subject == self.subject)

    def key(self):
        ready = Ready(self.loaded, Tokenised(self.tokenizer, self.context), None, Store("unused"), self.shots)
        return key_of(self.unit(), ready, self.how)


def changed_data(asked, tmp_path, split, before, after):
    shutil.copytree(asked.data, tmp_path / "data")
    file = tmp_path / "data/cmmlu" / split / "agronomy.csv"
    text = file.read_text(encoding="utf-8")
    assert before in text
    file.write_text(text.replace(before, after, 1), encoding="utf-8")
    asked.data = tmp_path / "data"


def one_weight(asked, tmp_path):
    model = copy.deepcopy(asked.loaded.model)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] += 1e-3
    model.save_pretrained(tmp_path)
    asked.loaded.fingerprint = checkpoint_fingerprint(tmp_path)


def config(asked, tmp_path):
    shutil.copytree(asked.loaded.folder, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "config.json"
    file.write_bytes(orjson.dumps(orjson.loads(file.read_bytes()) | {"rms_norm_eps": 1e-3}))
    asked.loaded.fingerprint = checkpoint_fingerprint(tmp_path)


def chat_template(asked, _):
    asked.tokenizer.chat_template = toys.CHAT.replace("assistant", "model")


CHANGES = {
    "one weight": one_weight,
    "the configuration": config,
    "a token": lambda asked, _: asked.tokenizer.add_tokens(["水稻"]),
    "a special token": lambda asked, _: setattr(asked.tokenizer, "eos_token", "<|endoftext|>"),
    "the chat template": chat_template,
    "the preset": lambda asked, _: setattr(asked, "preset", "cmmlu"),
    "the number of examples": lambda asked, _: setattr(asked, "shots", 1),
    "a question": lambda asked, tmp: changed_data(asked, tmp, "test", "第0题", "第零题"),
    "an option": lambda asked, tmp: changed_data(asked, tmp, "test", "甲1,", "甲一,"),
    "an example": lambda asked, tmp: changed_data(asked, tmp, "dev", "第100题", "第百题"),
    "the name of a task": lambda asked, _: setattr(asked, "name", "cmmlu/agronomy"),
    "the subject": lambda asked, _: setattr(asked, "subject", "ethnology"),
    "the number type": lambda asked, _: setattr(asked.loaded, "model", copy.deepcopy(asked.loaded.model).bfloat16()),
    "a part of the questions": lambda asked, _: setattr(asked, "limit", 6),
    "a switch of the chat template": lambda asked, _: switched(asked.tokenizer, {"messages": []}),
    "the context": lambda asked, _: setattr(asked, "context", 1024),
    "rotations": lambda asked, _: setattr(asked, "how", "rotations"),
    "writing": lambda asked, _: setattr(asked, "how", how_written("hf", 16, asked.loaded)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_each_input_alone_makes_another_key(data, loaded, tmp_path, what):
    asked = Asked(data, loaded)
    before = asked.key()
    assert Asked(data, loaded).key() == before
    CHANGES[what](asked, tmp_path)
    assert asked.key() != before


def test_the_room_of_a_written_answer_makes_another_key(data, loaded):
    asked = Asked(data, loaded)
    asked.preset = "steel"
    before = asked.key()
    asked.room = 17
    assert asked.key() != before


def test_the_names_of_subjects_and_the_reading_of_a_file_enter_by_the_prompts(data, loaded):
    """Neither is in the hash of the file: a mended name or reader must not find the answers to the old question."""
    unit = Asked(data, loaded).unit()
    first, *others = unit.prompts
    for changed in (
        replace(first, header=first.header + " "), replace(first, question=first.question + " "),
        replace(first, shots=first.shots[::-1]), replace(first, continuations=("A", "B", "C", "D")),
    ):  # fmt: skip
        assert replace(unit, prompts=[changed, *others]).fingerprint != unit.fingerprint
    assert replace(unit, prompts=unit.prompts[::-1]).fingerprint != unit.fingerprint
    assert replace(unit, preset=replace(unit.preset, overflow="drop-longest-shot")).fingerprint != unit.fingerprint


def test_task_subject_and_data_count_beside_the_prompts(data, loaded):
    """Results are of named questions of named data, even where another name or key letter asks the same."""
    unit = Asked(data, loaded).unit()
    sha = unit.task.subject_sha256["agronomy"]
    ready = Ready(loaded, Tokenised(toys.tokenizer(), 2048), None, Store("unused"), 2)
    changed = [
        replace(unit, task=replace(unit.task, name="other")),
        replace(unit, task=replace(unit.task, subject_sha256={"agronomy": "0" * 64})),
        replace(unit, subject="ethnology", task=replace(unit.task, subject_sha256={"ethnology": sha})),
    ]
    assert {u.fingerprint for u in changed} == {unit.fingerprint}
    assert len({key_of(u, ready) for u in [unit, *changed]}) == 4


def test_each_input_of_writing_alone_makes_another_key(loaded):
    def how(generator="hf", new_tokens=16, **rules):
        mine = copy.copy(loaded)
        mine.model = copy.deepcopy(loaded.model)
        mine.model.generation_config.update(**rules)
        return how_written(generator, new_tokens, mine)

    keys = [
        how(), how("vllm"), how("openai:http://a/v1"), how("openai:http://b/v1"), how(new_tokens=17),
        how(eos_token_id=[1, 2]), how(no_repeat_ngram_size=3),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys) and how() == keys[0]


def test_changed_code_makes_another_key_and_missing_code_an_error(data, loaded, monkeypatch):
    """A module that was renamed must not leave the key in silence: old answers would pass for the new code's."""
    before = Asked(data, loaded).key()
    for number, name in enumerate(results._CODE):
        others = results._CODE[:number] + results._CODE[number + 1 :]
        code_fingerprint.cache_clear()
        monkeypatch.setattr(results, "_CODE", others)
        assert Asked(data, loaded).key() != before, name
        code_fingerprint.cache_clear()
        monkeypatch.setattr(results, "_CODE", (*others, name + "_renamed"))
        with pytest.raises(ModuleNotFoundError, match=name + "_renamed"):
            code_fingerprint()
        monkeypatch.undo()
    code_fingerprint.cache_clear()
    assert Asked(data, loaded).key() == before


def test_a_submission_keeps_an_unreadable_answer_empty(data, loaded):
    asked = Asked(data, loaded)
    asked.name = "cmmlu/agronomy"
    unit = asked.unit()
    frame = results.likelihood_answers(unit, {"logprob": [[-1, -2, -3, -4]] * 11 + [[None, -1, -1, -1]]})
    assert frame["prediction"].to_list() == ["A"] * 11 + [""]
    table = orjson.loads(submission(frame))
    assert table["agronomy"]["0"] == "A" and table["agronomy"]["11"] == ""


def test_what_is_stored_is_not_computed_again(data, loaded, tmp_path):
    asked = Asked(data, loaded)
    ready = Ready(loaded, Tokenised(asked.tokenizer, 2048), prefix_sharing(loaded.model), Store(tmp_path / "s"), 2)
    first = results.score_unit(asked.unit(), ready)
    ready.loaded = replace(loaded, model=SimpleNamespace(dtype=loaded.model.dtype))  # nothing can be computed with it
    again = results.score_unit(asked.unit(), ready)
    assert again.answers.equals(first.answers) and again.notes == first.notes
