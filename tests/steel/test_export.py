"""`steel export-model`: the converters are real programs here, which leave behind what they were told."""

import json
import os
import stat
from pathlib import Path

import pytest
from tests.steel_eval import toys

from steel.export import export_model
from steel_data.errors import InputError

CONVERTER = """
import json, sys
from pathlib import Path
model, file = Path(sys.argv[1]), Path(sys.argv[sys.argv.index("--outfile") + 1])
if json.loads((model / "config.json").read_text())["model_type"] == "steel":
    sys.exit("ERROR: Model SteelForCausalLM is not supported")
file.write_text(json.dumps({"weights": (model / "model.safetensors").stat().st_size, "arguments": sys.argv[2:]}))
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return toys.save(tmp_path / "run/checkpoints/step-000010").parents[1]


@pytest.fixture
def converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "llama.cpp"
    folder.mkdir()
    (folder / "convert_hf_to_gguf.py").write_text(CONVERTER)
    monkeypatch.setenv("LLAMA_CPP", str(folder))
    return folder


def program(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod((folder / name).stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_the_last_checkpoint_of_a_run_becomes_one_file(model: Path, converter: Path, tmp_path: Path) -> None:
    said = export_model(str(model), "gguf", tmp_path / "out.gguf", "q8_0")
    made = json.loads((tmp_path / "out.gguf").read_text())
    assert made["weights"] > 1000 and made["arguments"][-2:] == ["--outtype", "q8_0"] and "out.gguf" in said
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(InputError, match="is there already"):
        export_model(str(model), "gguf", tmp_path / "out.gguf")


def test_what_the_converter_refuses_is_told_in_its_words(model: Path, converter: Path, tmp_path: Path) -> None:
    config = model / "checkpoints/step-000010/config.json"
    config.write_text(config.read_text().replace('"qwen2"', '"steel"'))
    with pytest.raises(InputError, match=r"failed \(status 1\): ERROR: Model SteelForCausalLM is not supported"):
        export_model(str(model), "gguf", tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists() and not list(tmp_path.glob(".*"))


def test_without_a_converter_what_to_install_is_named(model: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("LLAMA_CPP", raising=False)
    with pytest.raises(InputError, match=r"llama\.cpp's convert_hf_to_gguf\.py is not on the PATH.*git clone"):
        export_model(str(model), "gguf", tmp_path / "out.gguf")
    monkeypatch.setenv("LLAMA_CPP", str(tmp_path))
    with pytest.raises(InputError, match="is not in LLAMA_CPP"):
        export_model(str(model), "gguf", tmp_path / "out.gguf")


@pytest.mark.skipif(os.name != "posix", reason="a program of two lines is a shell's")
def test_ollama_is_given_a_file_and_a_name(model: Path, converter: Path, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(InputError, match="ollama is not installed"):
        monkeypatch.setenv("PATH", "/nowhere")
        export_model(str(model), "ollama", tmp_path / "out")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    program(tmp_path / "bin", "ollama", 'echo "$@" > asked; cat Modelfile >> asked', monkeypatch)
    assert "ollama run run" in export_model(str(model), "ollama", tmp_path / "out")
    assert (tmp_path / "out/asked").read_text() == "create run -f Modelfile\nFROM ./run.gguf\n"
    assert (tmp_path / "out/run.gguf").is_file()


def test_words_are_checked_before_a_model_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Did you mean 'gguf'"):
        export_model("nothing/here", "guf")
    with pytest.raises(InputError, match="Did you mean 'q8_0'"):
        export_model("nothing/here", "gguf", precision="q8")


def test_a_whole_model_needs_no_merging(model: Path) -> None:
    with pytest.raises(InputError, match="one whole model already"):
        export_model(str(model), "merged")


def test_an_adapter_is_merged(model: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = model / "checkpoints/step-000010"
    adapted = get_peft_model(toys.model(len(toys.tokenizer())), LoraConfig(r=2, target_modules=["q_proj"]))
    adapted.peft_config["default"].base_model_name_or_path = str(base)
    adapted.save_pretrained(tmp_path / "adapter")
    export_model(str(tmp_path / "adapter"), "merged", tmp_path / "whole")
    assert (tmp_path / "whole/model.safetensors").is_file() and (tmp_path / "whole/tokenizer.json").is_file()
