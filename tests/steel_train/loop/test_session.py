"""Killed at any moment and run again: bitwise the same weights and losses as without the kill."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from tests.steel_train.conftest import write_recipe
from tests.steel_train.toys import write_mixture
from tests.waiting import until

from steel_data.errors import InputError
from steel_train.loop import session
from steel_train.loop.checkpoints import read_facts, resumable

_TIMES = ("tokens_per_second",)


def trace(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in _TIMES} for line in lines]


def weights(folder: Path) -> bytes:
    last = sorted((folder / "checkpoints").glob("step-*"))[-1]
    return (last / "model.safetensors").read_bytes()


def interrupt_at(monkeypatch, pass_number: int) -> None:
    """Raise in forward pass `pass_number` of this process, as a kill between two passes of one step would."""
    import steel_train.loop.trainer as trainer

    real, passes = trainer.negative_log_likelihoods, [0]

    def counted(*args):
        passes[0] += 1
        if passes[0] == pass_number:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(trainer, "negative_log_likelihoods", counted)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, shared_mixture):
    """Return the folder of an uninterrupted run: 2 epochs of 10 steps, two padded passes a step."""
    from steel_train.run import run

    folder = tmp_path_factory.mktemp("whole")
    run(write_recipe(folder, shared_mixture, packing="false"), shared_mixture, folder / "run", None)
    return folder / "run"


@pytest.mark.parametrize(
    ("pass_number", "resumed_from"),
    [(14, 5), (33, 15)],
    ids=["epoch 0, in mid-accumulation", "epoch 1"],
)
def test_a_killed_run_goes_on_bit_for_bit(train, whole, tmp_path, monkeypatch, pass_number, resumed_from):
    with monkeypatch.context() as patch:
        interrupt_at(patch, pass_number)
        with pytest.raises(KeyboardInterrupt):
            train("killed", packing="false")
    folder = tmp_path / "runs" / "killed"
    assert resumable(folder).name == f"step-{resumed_from:06d}"
    # what a kill in the middle of a save or of a line leaves behind
    half = folder / "checkpoints" / ".writing" / "checkpoint-99"
    half.mkdir(parents=True, exist_ok=True)
    (half / "model.safetensors").write_bytes(b"half")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')
    train("killed", packing="false")
    assert weights(folder) == weights(whole)
    assert trace(folder) == trace(whole)


def test_a_damaged_last_checkpoint_is_made_again_bit_for_bit(train, whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "runs" / "r")
    (folder / "result.json").unlink()
    last = folder / "checkpoints" / "step-000020"
    (last / "model.safetensors").write_bytes(b"half")
    train(packing="false")
    assert weights(folder) == weights(whole) and trace(folder) == trace(whole)


def test_another_template_under_the_same_name_is_refused(train, tmp_path):
    from steel_train.examples.tokenizer import CHATML

    (tmp_path / "own.jinja").write_text(CHATML, encoding="utf-8")
    train(max_steps="2", chat_template='"own.jinja"')
    (tmp_path / "own.jinja").write_text(CHATML.replace("assistant", "helper"), encoding="utf-8")
    with pytest.raises(InputError, match="was started with tokenizer = "):
        train(max_steps="2", chat_template='"own.jinja"')


def test_a_finished_run_verifies_and_trains_no_more(train, capsys):
    folder = train(epochs="1")
    before = (folder / "metrics.jsonl").stat().st_mtime_ns
    train(epochs="1")
    assert "its last checkpoint is whole" in capsys.readouterr().out
    assert (folder / "metrics.jsonl").stat().st_mtime_ns == before
    last = sorted((folder / "checkpoints").glob("step-*"))[-1] / "model.safetensors"
    data = bytearray(last.read_bytes())
    data[-1] ^= 1
    last.write_bytes(data)
    with pytest.raises(InputError, match="its bytes are not those that were written"):
        train(epochs="1")


def test_another_mixture_or_setting_is_refused_and_named(train, tmp_path, shared_mixture):
    folder = train(max_steps="2")
    with pytest.raises(InputError, match=r"train.learning_rate = 0.001, now it is 0.002"):
        train(max_steps="2", learning_rate="2e-3")
    other = write_mixture(tmp_path / "other", count=50)
    from steel_train.run import run

    with pytest.raises(InputError, match=r"was started with mixture\.content_sha256"):
        run(write_recipe(tmp_path, other, max_steps=2), other, folder, None)


def test_a_finished_run_of_an_earlier_steel_is_still_the_same_run(train, capsys):
    """Its record lacks the keys that came later; absent they mean what they did then."""
    folder = train(epochs="1")
    record = json.loads((folder / "run.json").read_text())
    for later in ("chat_template_kwargs", "overlong", "eval", "loss"):
        del record["identity"]["train"][later]
    del record["identity"]["loss_of_source"]
    (folder / "run.json").write_text(json.dumps(record))
    train(epochs="1")
    assert "its last checkpoint is whole" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"train.overlong = \"cut\", now it is \"drop\""):
        train(epochs="1", overlong='"drop"')
    with pytest.raises(InputError, match=r"train.loss = \"assistant\", now it is \"all\""):
        train(epochs="1", loss='"all"')
    with pytest.raises(InputError, match=r"loss_of_source.chat = null, now it is \"all\""):
        train(epochs="1", changes=["source.chat.loss=all"])


LFM2 = (
    'model = { type = "lfm2", hidden_size = 32, num_hidden_layers = 2, num_attention_heads = 4, num_key_value_heads = 2, '
    'intermediate_size = 64, vocab_size = 400, max_position_embeddings = 512, layer_types = ["conv", "full_attention"], '
    "conv_L_cache = 3 }"
)


def test_a_model_that_mixes_packed_rows_is_padded_and_says_why(train, capsys):
    folder = train("lfm2", model=LFM2, max_steps="2")
    assert "rows are padded, not packed: lfm2 mixes rows" in capsys.readouterr().out
    assert json.loads((folder / "run.json").read_text())["identity"]["packed"] is False
    train("lfm2", model=LFM2, max_steps="2")
    assert "its last checkpoint is whole" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"packing = true, but lfm2 mixes rows: .*Fix: packing = false"):
        train("asked", model=LFM2, max_steps="2", packing="true")


def test_resume_never_refuses_a_folder_with_a_checkpoint(train):
    folder = train(max_steps="5")
    (folder / "result.json").unlink()
    with pytest.raises(InputError, match='resume = "never"'):
        train(max_steps="5", resume='"never"')


def test_checkpoints_without_the_record_of_their_run_are_not_gone_on_from(train):
    """Remove a run's folder while it trains: it writes its next checkpoint, and a run of any recipe would go on from it."""
    folder = train(max_steps="5")
    (folder / "result.json").unlink()
    (folder / "run.json").unlink()
    with pytest.raises(InputError, match=r"holds step-000005, and no run\.json says of which run\. Fix: another --out"):
        train(max_steps="7")


def test_a_damaged_record_of_a_run_is_told_in_a_line(train):
    folder = train(max_steps="2")
    for name in ("result.json", "run.json"):
        whole = (folder / name).read_bytes()
        for damage in (
            b"",
            b"[]",
            whole[:-9],
            b"[" * 99_999,
            b'{"identity": {"train": 3}, "base": {}, "checkpoint": 1}',
        ):
            (folder / name).write_bytes(damage)
            with pytest.raises(InputError, match=rf"{name}: is not what a run wrote: .*Fix: the file as it was"):
                train(max_steps="2")
        (folder / name).write_bytes(whole)


def test_a_checkpoint_says_what_it_is_and_loads(train):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = train(epochs="1", keep="1")
    names = sorted(p.name for p in (folder / "checkpoints").iterdir())
    assert names == ["step-000010"]  # the epoch's end; keep = 1 dropped the others
    facts = read_facts(folder / "checkpoints" / "step-000010")
    assert (facts["step"], facts["epoch"], facts["epoch_end"]) == (10, 1.0, True)
    assert facts["exposures"]["rows"] == {"chat": 40, "identity": 40}
    ran = facts["kernels"]["ops"]["head_loss"]
    assert facts["kernels"]["asked"] == "auto" and ran["torch"] >= 10 and (ran["triton"], ran["own"]) == (0, 0)
    checkpoint = folder / "checkpoints" / "step-000010"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
    assert tokenizer.chat_template and tokenizer.pad_token != tokenizer.eos_token
    assert tokenizer.eos_token_id in model.generation_config.eos_token_id


def test_seeds_have_their_own_folders_and_weights(train):
    folder = train(seeds="[1, 2]", max_steps="3")
    assert sorted(p.name for p in folder.iterdir() if p.name.startswith("seed")) == ["seed-1", "seed-2"]
    assert weights(folder / "seed-1") != weights(folder / "seed-2")


def test_optimiser_states_are_kept_only_where_resuming_needs_them(whole):
    states = [p.parent.name for p in sorted((whole / "checkpoints").glob("*/optimizer.pt"))]
    assert states == ["step-000015", "step-000020"]


def _start(recipe: Path, mixture: Path, out: Path, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "steel_train", "run", str(recipe), "--mixture", str(mixture), "--out", str(out)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ, **options
    )


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_signals(tmp_path, shared_mixture, number, status):
    recipe = write_recipe(tmp_path, shared_mixture, epochs=400, save_every=50)  # 4,000 steps: it is not done soon
    # a process that was started in the background does not hear Ctrl-C, nor does what it starts
    process = _start(
        recipe,
        shared_mixture,
        tmp_path / "run",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    checkpoint = tmp_path / "run" / "checkpoints" / "step-000050"
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    output = process.communicate()[0]
    assert process.returncode == status, output
    saved = resumable(tmp_path / "run")
    assert saved is not None
    if number != signal.SIGKILL:
        last = output.splitlines()[-1]
        assert last == f"stopped by {signal.Signals(number).name} and saved; run the same command again to go on"


def test_ctrl_c_in_a_long_step_says_what_is_waited_for_and_again_does_not_wait(monkeypatch, capsys):
    before, said = signal.getsignal(signal.SIGINT), [""]
    for soon in (600, 0.05):
        monkeypatch.setattr(session, "_SOON", soon)
        stop = []
        with pytest.raises(KeyboardInterrupt), session._stopping_at_signals(stop):
            signal.raise_signal(signal.SIGINT)
            assert stop == [signal.SIGINT]
            until(lambda soon=soon: said.append(capsys.readouterr().out) or soon == 600 or said[-1].endswith("\n"))
            signal.raise_signal(signal.SIGINT)
        assert "".join(said) == (
            "" if soon == 600 else "stopping when the step is done and saved; Ctrl-C again: now, unsaved\n"
        )
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(("number", "heard"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_what_ctrl_c_waits_for_reaches_the_terminal_where_a_log_takes_what_is_printed(
    monkeypatch, tmp_path, number, heard
):
    """As under `mix`, `trial` and `study` with one worker; the SIGTERM of a worker's process is no user's."""
    monkeypatch.setattr(session, "_SOON", 0.05)
    monkeypatch.setattr(sys, "__stderr__", terminal := io.StringIO())
    with (tmp_path / "log").open("w") as log, redirect_stdout(log), session._stopping_at_signals([]):
        signal.raise_signal(number)
        time.sleep(0.3)
    line = "stopping when the step is done and saved; Ctrl-C again: now, unsaved\n"
    assert (tmp_path / "log").read_text() == line and terminal.getvalue() == (line if heard else "")


@pytest.mark.slow
def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, shared_mixture):
    """RLIMIT_FSIZE makes real writes fail, here those of the weights from some size on."""
    import resource

    out = tmp_path / "run"

    def no_large_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    first = _start(write_recipe(tmp_path, shared_mixture, max_steps=5), shared_mixture, out)
    assert first.communicate() and first.returncode == 0
    (out / "result.json").unlink()
    record = json.loads((out / "run.json").read_text())
    record["identity"]["train"]["max_steps"] = None
    (out / "run.json").write_text(json.dumps(record))
    process = _start(write_recipe(tmp_path, shared_mixture), shared_mixture, out, preexec_fn=no_large_files)
    output = process.communicate()[0]
    assert process.returncode == 2, output
    assert "cannot be written" in output and "Earlier checkpoints are whole" in output
    assert [p.name for p in (out / "checkpoints").iterdir()] == ["step-000005"]
