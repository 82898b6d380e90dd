"""How much of the demo model each mix keeps: size, held-out accuracy, perplexity, divergence.

    python tools/demo/quality.py demo-f32.gguf WORK [--programs target/release]

demo-f32.gguf is the trained model in full (train.py, convert.py). WORK gets the quantised files, the importance
matrix, and the saved predictions; what is there already is not made again. Prints two tables in Markdown: the
six mixes, and flat types to hold them against. `cachalot` and the example `demo-eval` must be built.

Importance comes from dialogues of the training corpus, everything else from the held-out questions. The
perplexity is that of their dialogues, control tokens included, in chunks of 512 tokens; KL is the mean divergence
from the predictions of the model in F32.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
MIXES = ["UD-IQ1_S", "UD-IQ1_M", "UD-IQ2_XXS", "UD-Q2_K_XL", "UD-Q3_K_XL", "UD-Q4_K_XL"]
FLAT = ["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "Q2_K", "IQ3_XXS", "IQ3_S", "Q3_K", "IQ4_XS", "Q4_K", "Q5_K", "Q6_K", "Q8_0"]
# llama.cpp and we refuse to make these without an importance matrix.
NEEDS_IMPORTANCE = ("IQ1", "IQ2", "UD-IQ1", "UD-IQ2")
CALIBRATION_DIALOGUES = 1500


class Bench:
    def __init__(self, whole, work, programs):
        self.whole, self.work = whole, work
        self.cachalot, self.eval = programs / "cachalot", programs / "examples" / "demo-eval"
        self.calibration = self.text("calibration.txt", "--text", str(CALIBRATION_DIALOGUES))
        self.heldout = self.text("heldout.txt", "--heldout-text")
        self.imatrix = self.made("imatrix.gguf", "imatrix", whole, self.calibration, "--special", "-q", "-t", "1", "-o")
        self.saved = self.made("saved", "perplexity", whole, self.heldout, "--special", "-q", "-t", "1", "--save-logits")

    def text(self, name, *options):
        path = self.work / name
        path.write_text(run(sys.executable, HERE / "corpus.py", *options))
        return path

    def made(self, name, *command):
        path = self.work / name
        if not path.exists():
            run(self.cachalot, *command, path)
        return path

    def quantised(self, mix, with_importance):
        path = self.work / f"{mix}{'' if with_importance else '-plain'}.gguf"
        if not path.exists():
            importance = ["--imatrix", self.imatrix] if with_importance else []
            run(self.cachalot, "quantize", self.whole, path, "--mix", mix, *importance)
        return path

    def row(self, name, path):
        report = json.loads(run(self.cachalot, "inspect", path, "--json"))
        compared = json.loads(run(self.cachalot, "perplexity", path, "--kl", self.saved, "--json", "-q", "-t", "1"))
        right = run(self.eval, path).splitlines()[-1].split()[1]
        return {
            "name": name,
            "bytes": report["bytes"],
            "bits": report["bits_per_weight"],
            "accuracy": int(right) / 10,
            "perplexity": compared["perplexity"],
            "kl": compared["kl"]["mean"],
        }


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(str(word) for word in command)}\n{done.stderr}")
    return done.stdout


def table(rows):
    print("| file | MB | bits a weight | held-out answers | perplexity | KL from F32 |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['name']} | {row['bytes'] / 1e6:.2f} | {row['bits']:.2f} | {row['accuracy']:.1f} % "
            f"| {row['perplexity']:.3f} | {row['kl']:.4f} |",
            flush=True,
        )
    print()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("whole", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--programs", type=Path, default=HERE.parents[1] / "target" / "release")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(args.whole, args.work, args.programs)

    rows = [bench.row("F16", bench.quantised("F16", False)), bench.row("embedded (Q6_K)", "demo")]
    mixes = []
    for mix in MIXES:
        mixes.append(bench.row(mix, bench.quantised(mix, True)))
        if not mix.startswith(NEEDS_IMPORTANCE):
            rows.append(bench.row(f"{mix}, no importance matrix", bench.quantised(mix, False)))
    table([rows[0], rows[1], *reversed(mixes), *reversed(rows[2:])])
    flat = [bench.row(f"all {ty}", bench.quantised(ty, True)) for ty in FLAT]
    table(flat)
    for mix in mixes:
        larger = min((row for row in flat if row["bytes"] >= mix["bytes"]), key=lambda row: row["bytes"])
        verdict = "beats" if mix["kl"] < larger["kl"] else "does not beat"
        print(f"{mix['name']} {verdict} {larger['name']}, the next larger flat file: KL {mix['kl']:.4f} and {larger['kl']:.4f}")


if __name__ == "__main__":
    main()
