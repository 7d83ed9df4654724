"""Is our head + loss step slower or larger than TRL's default fused head on this CPU? Paired, in one run.

    python bench/head_loss.py [--tokens 2048] [--supervised 0.4] [--pairs 3]

Each pair runs TRL's step and ours one after the other, in turns of order, on the same float32 tensors at the size of
the Steel-LLM head (vocabulary 151,936, hidden 1792): forward, loss, backward to hidden and weight. Time on the clock
and of the processor (on a shared machine the second is the steadier). Memory: peak resident size of a process of its
own for each, above its inputs; the weight's gradient (1.09 GB) is in it. Prints the ratios ours / TRL.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

VOCABULARY, HIDDEN = 151_936, 1792


def inputs(tokens, supervised):
    import torch

    g = torch.Generator().manual_seed(0)
    hidden = torch.randn(1, tokens, HIDDEN, generator=g)
    # in place: a temporary here would raise the peak that `memory` starts from
    weight = torch.empty(VOCABULARY, HIDDEN).normal_(0, 0.02, generator=g)
    labels = torch.randint(0, VOCABULARY, (1, tokens), generator=g)
    labels[torch.rand(1, tokens, generator=g) >= supervised] = -100
    return hidden.requires_grad_(), weight.requires_grad_(), labels


def model_of(hidden, weight):
    """Return the smallest model whose backbone gives `hidden` and whose head is `weight`."""
    import torch
    from transformers import LlamaConfig
    from transformers.modeling_outputs import BaseModelOutputWithPast

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.config = LlamaConfig(vocab_size=VOCABULARY, hidden_size=HIDDEN, num_hidden_layers=0)
            self.lm_head = torch.nn.Linear(1, 1, bias=False)
            self.lm_head.weight = weight

        def base_model(self, **_):
            return BaseModelOutputWithPast(last_hidden_state=hidden)

        def get_output_embeddings(self):
            return self.lm_head

        def forward(self, **_):
            raise NotImplementedError

    return Model()


def stepper(name, hidden, weight):
    """Return a function that runs one step of TRL's or our fused head through the same contract."""
    import torch
    from trl.trainer.utils import add_fused_lm_head

    from steel_train.kernels.patch import patch

    model = model_of(hidden, torch.nn.Parameter(weight.detach()))
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    if name == "ours":
        assert patch(model, "torch") == ["head_loss"]

    def step(labels):
        out = model(input_ids=None, labels=labels, fused_lm_head=True)
        loss = -out.log_probs.sum() / out.label_mask.sum()
        return (loss.detach(), *torch.autograd.grad(loss, (hidden, model.lm_head.weight)))

    return step


def resident():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def memory(name, tokens, supervised):
    """Return the bytes by which the peak of one step exceeds what was resident before it."""
    hidden, weight, labels = inputs(tokens, supervised)
    step = stepper(name, hidden, weight)
    before = resident()
    step(labels)
    return resident() - before


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--supervised", type=float, default=0.4)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--memory-of", choices=("trl", "ours"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of:
        print(json.dumps(memory(args.memory_of, args.tokens, args.supervised)))
        return
    size = ["--tokens", str(args.tokens), "--supervised", str(args.supervised)]
    peaks = {}
    for name in ("trl", "ours"):
        command = [sys.executable, "-W", "ignore", __file__, *size, "--memory-of", name]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
        peaks[name] = json.loads(done.stdout.splitlines()[-1])
    compare(args, peaks)


def compare(args, peaks):
    import torch
    import trl

    hidden, weight, labels = inputs(args.tokens, args.supervised)
    steps = {name: stepper(name, hidden, weight) for name in ("trl", "ours")}
    seconds, processor = {"trl": [], "ours": []}, {"trl": [], "ours": []}
    for pair in range(args.pairs):
        results = {}
        for name in ("trl", "ours") if pair % 2 == 0 else ("ours", "trl"):
            start, busy = time.perf_counter(), time.process_time()
            results[name] = steps[name](labels)
            seconds[name].append(time.perf_counter() - start)
            processor[name].append(time.process_time() - busy)
        for got, want in zip(results["ours"], results["trl"], strict=True):
            torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-6)
    print(f"torch {torch.__version__}, trl {trl.__version__}, {torch.get_num_threads()} thread(s), float32")
    print(f"{args.tokens} tokens, {args.supervised:.0%} supervised, vocabulary {VOCABULARY}, hidden {HIDDEN}")
    for name in ("trl", "ours"):
        clock, busy, peak = statistics.median(seconds[name]), statistics.median(processor[name]), peaks[name] / 1e9
        print(f"{name:5} median {clock:7.2f} s, {busy:7.2f} s of the processor, peak {peak:.2f} GB above inputs")
    for kind, times in (("clock", seconds), ("processor", processor)):
        ratios = [ours / trl for ours, trl in zip(times["ours"], times["trl"], strict=True)]
        print(f"{kind} ours / TRL: median {statistics.median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}")
    print(f"peak ours / TRL: {peaks['ours'] / peaks['trl']:.3f}")


if __name__ == "__main__":
    main()
