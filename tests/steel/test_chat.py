"""`steel chat`: what is asked, what is printed, and how it ends, with a two-layer model."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.steel_eval import toys

from steel.chat import Manner, chat
from steel_data.errors import InputError

GREEDY = Manner(temperature=0, new_tokens=8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.save(tmp_path_factory.mktemp("chat") / "step-10")


def talk(model: Path, said: str, manner: Manner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Return what stood on stdout and on stderr after these lines."""
    monkeypatch.setattr("sys.stdin", io.StringIO(said))
    chat(str(model), manner, "cpu")
    return capsys.readouterr()


def test_it_answers_line_by_line_and_ends_with_the_input(model, monkeypatch, capsys) -> None:
    out, told = talk(model, "水稻的最适温度是多少？\n", GREEDY, monkeypatch, capsys)
    assert out.strip() and "<|im_end|>" not in out and told.rstrip().endswith("ended")


def test_a_talk_begun_anew_remembers_nothing(model, monkeypatch, capsys) -> None:
    once, _ = talk(model, "甲公司\n", GREEDY, monkeypatch, capsys)
    again, _ = talk(model, "乙公司\n/reset\n甲公司\n/exit\n无人\n", GREEDY, monkeypatch, capsys)
    assert again.endswith(once) and len(again) > len(once)


def test_a_system_prompt_is_part_of_what_is_asked(model, monkeypatch, capsys) -> None:
    by_option, _ = talk(model, "甲\n", Manner(temperature=0, new_tokens=8, system="答案"), monkeypatch, capsys)
    by_command, _ = talk(model, "/system 答案\n甲\n", GREEDY, monkeypatch, capsys)
    assert by_command == by_option


def test_the_same_seed_writes_the_same(model, monkeypatch, capsys) -> None:
    manner = Manner(new_tokens=8, seed=3)
    assert talk(model, "甲\n", manner, monkeypatch, capsys).out == talk(model, "甲\n", manner, monkeypatch, capsys).out


def test_a_wrong_command_is_named_and_a_path_is_none(model, monkeypatch, capsys) -> None:
    out, told = talk(model, "/rest\n/etc/passwd\n", GREEDY, monkeypatch, capsys)
    assert "/rest: no such command" in told and "/etc" not in told and out.strip()


def test_what_no_longer_fits_is_left_out_with_a_word(tmp_path, monkeypatch, capsys) -> None:
    short = toys.save(tmp_path / "short", max_position_embeddings=64)
    _, told = talk(short, f"{'甲乙丙' * 3}\n" * 3 + "丁戊己" * 80 + "\n", GREEDY, monkeypatch, capsys)
    assert "no longer fit and are left out" in told and "nothing was asked" in told


def test_a_model_without_a_chat_template_is_refused(tmp_path, monkeypatch) -> None:
    folder = toys.save(tmp_path / "plain")
    for name in ("chat_template.jinja",):
        (folder / name).unlink(missing_ok=True)
    config = folder / "tokenizer_config.json"
    import json

    held = json.loads(config.read_text(encoding="utf-8"))
    held.pop("chat_template", None)
    config.write_text(json.dumps(held), encoding="utf-8")
    with pytest.raises(InputError, match="no chat template"):
        chat(str(folder), GREEDY, "cpu")


def test_manners_that_no_answer_can_have_are_refused() -> None:
    with pytest.raises(InputError, match="--temperature"):
        Manner(temperature=-1)
    with pytest.raises(InputError, match="--top-p"):
        Manner(top_p=0)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_cuts_an_answer_off_and_the_talk_goes_on(model, monkeypatch, capsys) -> None:
    """Longer than a command has to end in after Ctrl-C, as elsewhere it must."""
    code = (
        "import steel_data.errors, sys; steel_data.errors.PATIENCE = 0.5\n"
        "from steel.chat import chat, Manner\n"
        "steel_data.errors.run_command(lambda: chat(sys.argv[1], Manner(new_tokens=100_000, temperature=0), 'cpu'))"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", code, str(model)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert "/reset" in started.stdout.readline()
    started.stdin.write("你好\n")
    started.stdin.flush()
    started.stdout.read(1)
    started.send_signal(signal.SIGINT)
    time.sleep(1)
    said = started.communicate("/reset\n")[0]
    assert "(cut off)" in said and said.endswith("begun anew\n\nended\n") and started.returncode == 0
