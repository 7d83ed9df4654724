"""`steel export-model`: a checkpoint as one whole model, as a GGUF file, or as a model of ollama.

Base and adapter are merged here; the rest is done by the converters of the projects whose formats these are, where
they are installed, so that a file is what its readers expect.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from steel_data.engine import progress, tell
from steel_data.errors import InputError, excerpt, nearest
from steel_data.files import atomic, replaced_folder
from steel_eval.models import find_checkpoints
from steel_train.models.convert import merge_adapter

FORMS = ("merged", "gguf", "ollama")
PRECISIONS = ("auto", "f32", "f16", "bf16", "q8_0")
_SCRIPTS = ("convert_hf_to_gguf.py", "convert-hf-to-gguf.py")


def export_model(place: str, to: str, out: Path | None = None, precision: str = "auto") -> str:
    """Write a checkpoint, or the last one of a run, in another form, and return what was made and how to use it.

    merged: a folder with base and adapter as one model. gguf: one file, by llama.cpp's converter. ollama: a model of
    this name in ollama, with the GGUF file and its Modelfile in a folder. `precision`: of a GGUF file's weights.
    Raises InputError for a converter that is not installed (naming it), or that fails, and for an output that is there.
    """
    if to not in FORMS:
        raise InputError(f"--to {to}: unknown.{nearest(to, FORMS)}")
    if precision not in PRECISIONS:
        raise InputError(f"--precision {precision}: unknown.{nearest(precision, PRECISIONS)}")
    checkpoint = find_checkpoints(place)[0][-1].folder
    adapter = (checkpoint / "adapter_config.json").is_file()
    name = _name(place, checkpoint)
    if to == "merged":
        if not adapter:
            raise InputError(f"{checkpoint}: is one whole model already. Fix: use it as it is, or --to gguf.")
        target = merge_adapter(checkpoint, out)
        return f"{target}: base and adapter as one model; talk to it with steel chat {target}"
    target = out or Path(f"{name}.gguf" if to == "gguf" else f"{name}-ollama")
    if target.exists():
        raise InputError(f"{target}: is there already. Fix: another --out.")
    converter, ollama = _converter(), _ollama() if to == "ollama" else ""
    with tempfile.TemporaryDirectory(prefix="steel-export-") as temporary:
        whole = merge_adapter(checkpoint, Path(temporary, "merged")) if adapter else checkpoint
        if to == "gguf":
            with atomic(target) as file:
                _converted(converter, whole, file, precision)
            return f"{target}: try it with llama-cli -m {target}"
        with replaced_folder(target) as fresh:
            _converted(converter, whole, fresh / f"{name}.gguf", precision)
            (fresh / "Modelfile").write_text(f"FROM ./{name}.gguf\n", encoding="utf-8")
            _ran([ollama, "create", name.lower(), "-f", "Modelfile"], "ollama", fresh)
    return f"{target}: ollama run {name.lower()}"


def _name(place: str, checkpoint: Path) -> str:
    """Return what the model is called: the run's name, or the checkpoint's."""
    name = Path(place).name if Path(place).exists() else place.rpartition("/")[2]
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name or checkpoint.name).strip(".-") or "model"


def _converter() -> Path:
    """Return llama.cpp's converter: in the folder that LLAMA_CPP names, or on the PATH."""
    folder = os.environ.get("LLAMA_CPP")
    for script in _SCRIPTS:
        found = Path(folder, script) if folder else Path(shutil.which(script) or "")
        if found.is_file():
            return found
    where = f"in LLAMA_CPP ({folder})" if folder else "on the PATH, and LLAMA_CPP is not set"
    raise InputError(
        f"llama.cpp's convert_hf_to_gguf.py is not {where}. Fix: git clone https://github.com/ggml-org/llama.cpp, "
        "pip install -r llama.cpp/requirements.txt, and LLAMA_CPP=llama.cpp before this command."
    )


def _ollama() -> str:
    found = shutil.which("ollama")
    if found is None:
        raise InputError("ollama is not installed. Fix: https://ollama.com/download, or --to gguf.")
    return found


def _converted(converter: Path, model: Path, file: Path, precision: str) -> None:
    # its name has no effect on what is written; a temporary file lacks the ending that the converter looks for
    with tempfile.TemporaryDirectory(prefix=".gguf-", dir=file.parent) as folder:
        made = Path(folder, "model.gguf")
        command = [sys.executable, str(converter), str(model), "--outfile", str(made), "--outtype", precision]
        _ran(command, converter.name, None)
        if not made.is_file():
            raise InputError(f"{converter.name} ended without a word and without a file. Fix: a newer llama.cpp.")
        made.replace(file)


def _ran(command: list[str], name: str, folder: Path | None) -> None:
    """Run a converter; its words go to stderr. Raises InputError with its last line where it fails."""
    tell(f"running {name}")
    with progress(name, None):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        lines = [line for line in (done.stderr + "\n" + done.stdout).splitlines() if line.strip()]
        said = excerpt((done.stderr.strip().splitlines() or lines or ["nothing was said"])[-1], 300)
        raise InputError(
            f"{name} failed (status {done.returncode}): {said}. Fix: what it says, or another version of it."
        )
