"""The demo model by the CPU and by a GPU: the same answers, and how far predictions are apart.

    python tools/demo/gpu.py PROGRAM WORK

PROGRAM is `cachalot` built with CUDA; WORK takes some 100 MB of files. Greedy answers to 50 held-out questions, with
weights in F16 and in Q8_0, are counted that are the CPU's to the last character. For each of the six mixes it prints the
mean divergence of the mix from the model that it was made of, which is its own noise, and that of a GPU from the CPU:
with everything there, with attention there too (the demo's heads are of a size for which GPUs have no flash attention),
and with experts in RAM.
"""

import argparse
import json
import lzma
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "tests" / "data" / "demo"
MIXES = ["UD-IQ1_S", "UD-IQ1_M", "UD-IQ2_XXS", "UD-Q2_K_XL", "UD-Q3_K_XL", "UD-Q4_K_XL"]
CPU = ["--gpu-layers", "0"]
GPU = {
    "GPU": ["--gpu-layers", "all"],
    "GPU, attention too": ["--gpu-layers", "all", "--no-flash-attention"],
    "experts in RAM": ["--gpu-layers", "all", "--no-flash-attention", "--cpu-moe"],
}
QUESTIONS = 50
PORT = 8571


def run(program, *arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, arguments))}: {done.stderr.strip()}")
    return done.stdout


def questions():
    with lzma.open(DATA / "heldout.jsonl.xz", "rt") as lines:
        asked = [line for line in map(json.loads, lines) if "messages" in line]
    return asked[:: len(asked) // QUESTIONS][:QUESTIONS]


def answer(question):
    wanted = {"messages": question["messages"], "temperature": 0, "max_tokens": 200}
    if "tools" in question:
        wanted["tools"] = question["tools"]
    body, kind = json.dumps(wanted).encode(), {"Content-Type": "application/json"}
    asked = urllib.request.Request(f"http://127.0.0.1:{PORT}/v1/chat/completions", body, kind)
    with urllib.request.urlopen(asked, timeout=120) as response:
        message = json.load(response)["choices"][0]["message"]
    return message.get("content"), [call["function"] for call in message.get("tool_calls") or []]


def answers(program, model, flags, asked):
    server = subprocess.Popen([program, "serve", str(model), "--port", str(PORT), "-q", *flags])
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=5)
                break
            except (urllib.error.URLError, OSError):
                if server.poll() is not None:
                    raise SystemExit(f"serve ended with {server.returncode}")
                time.sleep(0.1)
        return [answer(question) for question in asked]
    finally:
        server.terminate()
        server.wait()


def divergence(program, model, saved, flags):
    return json.loads(run(program, "perplexity", model, "--kl", saved, "--json", "-q", *flags))["kl"]["mean"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("work", type=Path)
    options = parser.parse_args()
    program, work = options.program, options.work
    work.mkdir(parents=True, exist_ok=True)
    for saved in work.glob("*.logits"):
        saved.unlink()
    text = work / "calibration.txt"
    text.write_bytes(lzma.open(DATA / "calibration.txt.xz").read())
    asked = questions()
    for mix in ["F16", "Q8_0"]:
        model = work / f"{mix}.gguf"
        run(program, "quantize", "demo", model, "--mix", mix, "--force")
        expected = answers(program, model, CPU, asked)
        for name, flags in GPU.items():
            same = sum(a == b for a, b in zip(answers(program, model, flags, asked), expected))
            print(f"{mix}, {name}: {same} of {len(asked)} answers are the CPU's", flush=True)

    importance, whole = work / "importance.gguf", work / "whole.logits"
    importance.unlink(missing_ok=True)
    run(program, "imatrix", "demo", text, "--special", "-q", "-o", importance)
    run(program, "perplexity", work / "F16.gguf", text, "--special", "-q", "--save-logits", whole, *CPU)
    print(f"\n| mix | its own noise | {' | '.join(GPU)} |\n|---|---|{'---|' * len(GPU)}")
    for mix in MIXES:
        model, saved = work / f"{mix}.gguf", work / f"{mix}.logits"
        run(program, "quantize", "demo", model, "--mix", mix, "--imatrix", importance, "--force")
        run(program, "perplexity", model, text, "--special", "-q", "--save-logits", saved, *CPU)
        apart = [divergence(program, model, saved, flags) for flags in GPU.values()]
        figures = [divergence(program, model, whole, CPU), *apart]
        print(f"| {mix} | {' | '.join(f'{figure:.4f}' for figure in figures)} |", flush=True)


if __name__ == "__main__":
    main()
