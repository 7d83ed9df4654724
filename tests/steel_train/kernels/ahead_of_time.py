"""Compile a kernel for a GPU that is not there and read what it would need: registers, spills, memory, instructions."""

import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


@dataclass(frozen=True)
class Resources:
    """`stack`, `shared`: bytes a thread, a block. `wide`, `narrow`: bytes a global access moves (16 is the widest)."""

    registers: int
    stack: int
    shared: int
    accesses: Counter
    instructions: Counter

    @property
    def matrix(self):
        return self.instructions["HMMA"] + self.instructions["HGMMA"]

    @property
    def spills(self):
        return self.instructions["LDL"] + self.instructions["STL"]


def compiled(launch, architecture, ones=()):
    """Compile one `kernel_ops.Launch` for sm_`architecture` with the hints that a run gives. `ones`: arguments that are 1.

    At run time Triton makes an integer argument of 1 a constant, and assumes multiples of 16 of pointers and of those
    integers that are.
    """
    names = launch.kernel.arg_names
    types = {n: t for n, t in launch.types.items() if n not in ones}
    constants = dict(launch.constants) | dict.fromkeys(ones, 1)
    unasked = {p.name for p in launch.kernel.params if p.do_not_specialize}
    hinted = [
        n for n, t in types.items() if n not in unasked and (t.startswith("*") or (t == "i32" and n not in launch.odd))
    ]
    source = ASTSource(
        fn=launch.kernel,
        signature={n: types.get(n, "constexpr") for n in names},
        constexprs={(names.index(n),): value for n, value in constants.items()},
        attrs={(names.index(n),): [["tt.divisibility", 16]] for n in hinted},
    )
    options = {"num_warps": launch.warps, "num_stages": launch.stages}
    kernel = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(kernel.asm["cubin"])
        usage = _run("cuobjdump", "-res-usage", cubin)
        listing = _run("nvdisasm", "-c", cubin)
    registers, stack = (int(re.search(rf"{word}:(\d+)", usage)[1]) for word in ("REG", "STACK"))
    instruction = r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d+ )?([A-Z][A-Z0-9]*)"
    return Resources(
        registers,
        stack,
        kernel.metadata.shared,
        Counter(_accesses(kernel.asm["ptx"])),
        Counter(re.findall(instruction, listing, re.MULTILINE)),
    )


def _accesses(ptx):
    """Yield (kind, bytes) of each global load and store in the PTX; cp.async as a load of 16."""
    pattern = r"(ld|st)\.global(?:\.[a-zA-Z_0-9:]+?)*?(?:\.v(\d))?\.b(\d+)"
    for kind, vector, bits in re.findall(pattern, ptx):
        yield kind, int(vector or 1) * int(bits) // 8
    for size in re.findall(r"cp\.async\.c[ag]\.shared\.global\S* \[[^\]]*\], \[[^\]]*\], (0x\w+|\d+)", ptx):
        yield "ld", int(size, 0)


def _run(tool, *arguments):
    done = subprocess.run([TOOLS / tool, *map(str, arguments)], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr
