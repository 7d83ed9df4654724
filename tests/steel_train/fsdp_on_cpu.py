"""`python -m torch.distributed.run … fsdp_on_cpu.py RECIPE MIXTURE OUT`: a run sharded by FSDP2 over processes on a CPU.

accelerate shards on accelerators only, so it is told that these processes have one each; the device stays the CPU and
they talk through gloo. The settings are those of launch/fsdp2.yaml, as `accelerate launch` hands them on.
"""

import os
import sys
from pathlib import Path

import yaml

if __name__ == "__main__":
    recipe, mixture, out = map(Path, sys.argv[1:4])
    said = yaml.safe_load((Path(__file__).parents[2] / "launch/fsdp2.yaml").read_text(encoding="utf-8"))
    os.environ["ACCELERATE_USE_FSDP"] = "true"
    for key, value in said["fsdp_config"].items():
        os.environ[key.upper()] = str(value).lower() if isinstance(value, bool) else str(value)

    from accelerate import DistributedType, PartialState

    begin = PartialState.__init__

    def begun(self, *args, **options):
        begin(self, *args, **options)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU

    PartialState.__init__ = begun

    from steel_train.run import run

    run(recipe, mixture, out, None)
