"""Trains the demo model: makes the corpus, trains, scores the held-out questions, exports.

    python tools/demo/train.py --out DIR [--minutes 8]

Everything fits the time that is given: the learning rate falls with the clock. Weights are exported every two
minutes as well. DIR gets config.json, weights-*.npz (for convert.py) and results.json.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from data import Shape, Source
from evaluate import evaluate, read_questions
from export import save
from model import Config, Model, parameter_count
from optimizer import Optimizer
from tokenizer import Tokenizer

HELDOUT = Path(__file__).resolve().parents[2] / "tests" / "data" / "demo" / "heldout.jsonl.xz"
REST_WEIGHT = 0.03  # of tokens that are not the model's to say
BALANCE_SPEED = 5e-3
EXPORT_SECONDS = 120


def log(text):
    print(f"{time.monotonic() - START:6.1f} s  {text}", flush=True)


def rate(done, warmup=0.015, decay=0.55):
    """The part of the learning rate when this part of the time is over: up, level, and down to nothing."""
    return min(1, done / warmup + 0.02, max(0.0, 1 - done) / decay)


def on_device(arrays, device):
    """Ids, targets, their weights, and the mask that keeps documents apart."""
    ids, documents, learned = (torch.from_numpy(a).to(device, non_blocking=True) for a in arrays)
    ids, documents = ids.long(), documents.int()
    inside = (documents[:, 1:] == documents[:, :-1]) & (documents[:, 1:] > 0)
    weights = torch.where(learned[:, 1:], 1.0, REST_WEIGHT) * inside
    n = ids.shape[1]
    causal = torch.ones(n, n, dtype=torch.bool, device=device).tril()
    allowed = (documents[:, :, None] == documents[:, None, :]) & causal
    mask = torch.zeros(allowed.shape, dtype=torch.bfloat16 if device.type == "cuda" else torch.float32, device=device)
    return ids, ids[:, 1:], weights, mask.masked_fill_(~allowed, -torch.inf)[:, None]


class Trainer:
    def __init__(self, args):
        self.args = args
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")
        torch.manual_seed(args.seed)
        self.tokenizer = Tokenizer()
        self.model = Model(Config(n_vocab=len(self.tokenizer.tokens))).to(self.device)
        self.optimizer = Optimizer(self.model, args.muon_lr, args.adam_lr)
        self.questions = read_questions(args.heldout, self.tokenizer)
        self.steps, self.tokens, self.history = 0, 0, []
        log(f"{parameter_count(self.model):,} parameters on {self.device}, torch {torch.__version__}")

    def compile(self):
        """The blocks, one by one: they are alike, so that few graphs are built. Without if that fails."""
        if self.device.type != "cuda" or self.args.no_compile:
            return
        for block in self.model.blocks:
            block.compile(dynamic=False)

    def step(self, batch, done):
        parts = [on_device(arrays, self.device) for arrays in batch]
        total = sum(weights.sum() for _, _, weights, _ in parts)
        answered, loads = torch.zeros(2, device=self.device), None
        for ids, targets, weights, mask in parts:
            with self.autocast:
                logits, load = self.model(ids, mask)
            losses = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), targets.flatten(), reduction="none").view_as(weights)
            ((losses * weights).sum() / total).backward()
            answer = weights == 1.0
            answered += torch.stack(((losses.detach() * answer).sum(), answer.sum()))
            loads = load if loads is None else [a + b for a, b in zip(loads, load)]
            self.tokens += ids.numel()
        self.optimizer.step(rate(done))
        self.model.balance(loads, BALANCE_SPEED * rate(done))
        self.steps += 1
        return answered[0] / answered[1], loads

    def first_step(self, batch):
        try:
            return self.step(batch, 0.0)
        except Exception as error:  # whatever a compiler throws
            if self.args.no_compile or self.device.type != "cuda":
                raise
            log(f"not compiled: {type(error).__name__}: {str(error)[:300]}")
            torch.compiler.set_stance("force_eager")
            self.args.no_compile = True
            self.model.zero_grad(set_to_none=True)
            return self.step(batch, 0.0)

    def train(self, source, deadline):
        begin = time.monotonic()
        self.compile()
        self.first_step(source.next())
        log("first step done")
        start = exported = shown = time.monotonic()
        tokens, losses = self.tokens, []
        while True:
            now = time.monotonic()
            done = self.steps / self.args.steps if self.args.steps else (now - start) / (deadline - start)
            if done >= 1:
                break
            loss, loads = self.step(source.next(), done)
            losses.append(loss)
            if self.steps % 20 == 0:
                loss.item()  # do not run ahead of the device
            if now - shown > 10:
                speed = (self.tokens - tokens) / (now - shown)
                spread = max((load.max() / load.mean()).item() for load in loads)
                mean = torch.stack(losses).mean().item()
                log(f"step {self.steps}  loss {mean:.4f}  {speed / 1e3:.0f} K tokens/s  rate {rate(done):.2f}  "
                    f"busiest expert {spread:.2f}  batches again {source.again}/{self.steps}")  # fmt: skip
                self.history.append((self.steps, mean))
                tokens, shown, losses = self.tokens, now, []
            if now - exported > EXPORT_SECONDS:
                exported = now
                self.export()
                self.score(self.questions[:: self.args.sample])
        log(f"{self.steps} steps, {self.tokens / 1e6:.0f} M tokens in {time.monotonic() - begin:.0f} s")

    def score(self, questions):
        with torch.compiler.set_stance("force_eager"):
            accuracy, wrong = evaluate(self.model, questions, self.tokenizer)
        log(f"accuracy {accuracy['all']:.3f}; lowest: " + ", ".join(f"{f} {a:.2f}" for f, a in sorted(accuracy.items(), key=lambda x: x[1])[:6]))
        return accuracy, wrong

    def export(self, **results):
        save(self.model, self.args.out)
        about = {"steps": self.steps, "tokens": self.tokens, "history": self.history, **results}
        Path(self.args.out, "results.json").write_text(json.dumps(about, ensure_ascii=False, indent=1))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--minutes", type=float, default=8, help="for everything")
    parser.add_argument("--steps", type=int, default=0, help="train so many steps instead")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2))
    parser.add_argument("--short-rows", type=int, default=160)
    parser.add_argument("--long-rows", type=int, default=32)
    parser.add_argument("--muon-lr", type=float, default=0.02)
    parser.add_argument("--adam-lr", type=float, default=3e-3)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--heldout", default=HELDOUT)
    parser.add_argument("--sample", type=int, default=4, help="of so many held-out questions one is asked on the way")
    parser.add_argument("--reserve", type=float, default=40, help="seconds to score and export at the end")
    return parser.parse_args()


def main():
    args = arguments()
    source = Source(args.workers, args.seed, Shape(args.short_rows, 256), Shape(args.long_rows, 1024))
    trainer = Trainer(args)
    trainer.train(source, START + args.minutes * 60 - args.reserve)
    source.close()
    trainer.export()
    accuracy, wrong = trainer.score(trainer.questions)
    for family, share in accuracy.items():
        print(f"{family:20} {share:7.1%}")
    for answer in wrong[:: max(1, len(wrong) // 60)]:
        print(json.dumps(answer, ensure_ascii=False))
    trainer.export(accuracy=accuracy, wrong=wrong)
    log("done")


if __name__ == "__main__":
    START = time.monotonic()
    sys.exit(main())
