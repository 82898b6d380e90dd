#!/usr/bin/env python3
"""Makes the test data of the six mixes: one small random model, quantised like Unsloth's, with logits.

    tools/mixes.py BUILD [FOLDER] [--seed S]

BUILD is a CMake build of llama.cpp, on the CPU, with llama-quantize and libllama as a dynamic library. FOLDER
(tests/data/mixes) gets models.tar.xz with MIX.gguf for each of the mixes, and golden.safetensors.xz, which holds

    tokens          I32 [64]        the prompt, beginning with bos
    positions       I32 [16]        where logits are kept
    reference       F32 [16, vocab] transformers, of the model before it was quantised
    MIX.exact       F32 [16, vocab] transformers, of the values that MIX.gguf stands for
    MIX.llama       F32 [16, vocab] llama.cpp, KV cache in F16
    MIX.llama_fa    F32 [16, vocab] llama.cpp with flash attention

transformers computes in float64 (eager; norms, softmax and router in float32). llama.cpp quantises
activations too, so `exact` is what a perfect program would give and `llama` what a good one does. All but
`exact` are rounded to 12 significant bits, which is far below that noise.

The model is DeepSeek-V3 in everything but size, and every row is a multiple of 256 long, as K-quants and
I-quants want, but for those of attn_k_b. The types are meant to be those of the "UD" mixes: routed gate and
up in the type that gives the mix its name, routed down better and not the same in each layer.

A few things make the data small and the comparison sharp:

- The rows of a matrix are drawn from few different ones, with the same importances for all experts, so that
  xz finds them again. They are drawn anew for every tensor and expert: no two units of the network agree.
- The prompt is chosen token by token such that the choice of experts is clear in all mixes. A tie would let
  two programs that are both right differ by much.

The published files: seed 0, llama.cpp as in the Python package llama-cpp-python 0.3.36 (ggml 0.25.3), built in
Release mode on an AVX-512 machine, and the versions below. Metadata and tokenizer are those of
tests/data/parity/v3.gguf.xz.

Needs: torch==2.15.0 transformers==5.23.0 gguf==0.19.0 safetensors==0.8.0 numpy==2.4.6, and a C++ compiler
"""

import argparse
import io
import json
import lzma
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import dequantize
from safetensors.numpy import save
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

TOOLS = Path(__file__).resolve().parent
DATA = TOOLS.parent / "tests" / "data"
PROMPT, CANDIDATES = 64, 96

VOCAB = 768
LAYERS, DENSE = 3, 1
EMBD, FF, HEADS, NOPE, ROPE, V, RANK = 256, 256, 4, 64, 32, 64, 256
EXPERTS, USED, GROUPS, GROUPS_USED, SCALE = 8, 3, 4, 2, 2.5
CONTEXT, ORIGINAL_CONTEXT, YARN_FACTOR = 10240, 256, 40.0
DISTINCT_ROWS = 48

# What differs from the metadata of the small model that the tokenizer comes from.
METADATA = {
    "general.name": "Six mixes",
    "general.size_label": None,
    "deepseek2.block_count": LAYERS,
    "deepseek2.context_length": CONTEXT,
    "deepseek2.embedding_length": EMBD,
    "deepseek2.feed_forward_length": FF,
    "deepseek2.leading_dense_block_count": DENSE,
    "deepseek2.vocab_size": VOCAB,
    "deepseek2.attention.head_count": HEADS,
    "deepseek2.attention.q_lora_rank": RANK,
    "deepseek2.attention.kv_lora_rank": RANK,
    "deepseek2.attention.key_length": RANK + ROPE,
    "deepseek2.attention.value_length": RANK,
    "deepseek2.attention.key_length_mla": NOPE + ROPE,
    "deepseek2.attention.value_length_mla": V,
    "deepseek2.rope.dimension_count": ROPE,
    "deepseek2.rope.scaling.factor": YARN_FACTOR,
    "deepseek2.rope.scaling.original_context_length": ORIGINAL_CONTEXT,
    "deepseek2.expert_count": EXPERTS,
    "deepseek2.expert_used_count": USED,
    "deepseek2.expert_group_count": GROUPS,
    "deepseek2.expert_group_used_count": GROUPS_USED,
    "deepseek2.expert_feed_forward_length": FF,
    "deepseek2.expert_shared_count": 1,
    "deepseek2.expert_weights_scale": SCALE,
}

# name: llama-quantize's own name of the mix, routed gate and up, routed down in the layers 1 and 2
MIXES = {
    "iq1_s": ("IQ1_S", "iq1_s", ["iq2_xxs", "iq1_m"]),
    "iq1_m": ("IQ1_M", "iq1_m", ["iq2_xxs", "iq2_xs"]),
    "iq2_xxs": ("IQ2_XXS", "iq2_xxs", ["iq2_s", "iq3_xxs"]),
    "q2_k_xl": ("Q2_K", "q2_k", ["q3_k", "q2_k"]),
    "q3_k_xl": ("Q3_K_M", "q3_k", ["q4_k", "iq4_xs"]),
    "q4_k_xl": ("Q4_K_M", "q4_k", ["q5_k", "q6_k"]),
}

# The same in all mixes. The first pattern that is found in a tensor's name decides.
TYPES = {
    r"attn_(k|v)_b\.": "q8_0",
    r"attn_kv_a_mqa": "q6_k",
    r"blk\.2\.attn_q_b": "q5_k",
    r"blk\.[12]\.attn_output": "q5_k",
    r"attn_(q_a|q_b|output)\.": "q4_k",
    r"blk\.2\.ffn_(gate|up)_shexp": "q5_k",
    r"ffn_(gate|up)(_shexp)?\.": "q4_k",
    r"ffn_down(_shexp)?\.": "q6_k",
}


# --- The model


def matrix(rng, *shape, gain=1.0):
    """Random weights that keep the size of activations, times gain; the rows are drawn from few."""
    rows = rng.normal(scale=gain / np.sqrt(shape[-1]), size=(DISTINCT_ROWS, shape[-1]))
    return rows[rng.integers(DISTINCT_ROWS, size=shape[:-1])]


def token_table(rng, gain):
    """A row for each token: few rows, of which every token has 32 columns of its own."""
    table = matrix(rng, VOCAB, EMBD, gain=gain)
    for row, block in zip(table, rng.integers(EMBD // 32, size=VOCAB)):
        row[block * 32 : block * 32 + 32] = rng.normal(scale=0.7 * gain / np.sqrt(EMBD), size=32)
    return table


def norm(rng, length):
    return rng.uniform(0.6, 1.4, length)


def random_model(rng):
    """All tensors by their GGUF names, F32, in numpy's order of dimensions."""
    tensors = {
        "token_embd.weight": token_table(rng, gain=np.sqrt(EMBD)),
        "output.weight": token_table(rng, gain=1.6),
        "output_norm.weight": norm(rng, EMBD),
    }
    for layer in range(LAYERS):
        block = {
            "attn_norm.weight": norm(rng, EMBD),
            "attn_q_a.weight": matrix(rng, RANK, EMBD),
            "attn_q_a_norm.weight": norm(rng, RANK),
            "attn_q_b.weight": matrix(rng, HEADS * (NOPE + ROPE), RANK),
            "attn_kv_a_mqa.weight": matrix(rng, RANK + ROPE, EMBD),
            "attn_kv_a_norm.weight": norm(rng, RANK),
            # Turned round: what is summed over is the latent.
            "attn_k_b.weight": matrix(rng, HEADS, RANK, NOPE, gain=np.sqrt(NOPE / RANK)),
            "attn_v_b.weight": matrix(rng, HEADS, V, RANK),
            "attn_output.weight": matrix(rng, EMBD, HEADS * V),
            "ffn_norm.weight": norm(rng, EMBD),
        }
        if layer < DENSE:
            block |= mlp(rng, "", ())
        else:
            block |= mlp(rng, "_exps", (EXPERTS,)) | mlp(rng, "_shexp", ())
            block["ffn_gate_inp.weight"] = rng.normal(scale=1.5 / np.sqrt(EMBD), size=(EXPERTS, EMBD))
            block["exp_probs_b.bias"] = rng.uniform(-0.1, 0.1, EXPERTS)
        tensors |= {f"blk.{layer}.{name}": tensor for name, tensor in block.items()}
    return {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in tensors.items()}


def mlp(rng, kind, experts):
    return {
        f"ffn_gate{kind}.weight": matrix(rng, *experts, FF, EMBD),
        f"ffn_up{kind}.weight": matrix(rng, *experts, FF, EMBD),
        f"ffn_down{kind}.weight": matrix(rng, *experts, EMBD, FF, gain=1.5),
    }


# --- As transformers sees it

NAMES = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q_a.weight": "self_attn.q_a_proj.weight",
    "attn_q_a_norm.weight": "self_attn.q_a_layernorm.weight",
    "attn_q_b.weight": "self_attn.q_b_proj.weight",
    "attn_kv_a_mqa.weight": "self_attn.kv_a_proj_with_mqa.weight",
    "attn_kv_a_norm.weight": "self_attn.kv_a_layernorm.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
    "ffn_gate_shexp.weight": "mlp.shared_experts.gate_proj.weight",
    "ffn_up_shexp.weight": "mlp.shared_experts.up_proj.weight",
    "ffn_down_shexp.weight": "mlp.shared_experts.down_proj.weight",
    "ffn_down_exps.weight": "mlp.experts.down_proj",
    "ffn_gate_inp.weight": "mlp.gate.weight",
    "exp_probs_b.bias": "mlp.gate.e_score_correction_bias",
}


class Reference:
    """The model in float64."""

    def __init__(self, tensors):
        config = DeepseekV3Config(
            vocab_size=VOCAB,
            hidden_size=EMBD,
            intermediate_size=FF,
            moe_intermediate_size=FF,
            num_hidden_layers=LAYERS,
            first_k_dense_replace=DENSE,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS,
            qk_nope_head_dim=NOPE,
            qk_rope_head_dim=ROPE,
            v_head_dim=V,
            q_lora_rank=RANK,
            kv_lora_rank=RANK,
            n_routed_experts=EXPERTS,
            num_experts_per_tok=USED,
            n_group=GROUPS,
            topk_group=GROUPS_USED,
            n_shared_experts=1,
            routed_scaling_factor=SCALE,
            norm_topk_prob=True,
            max_position_embeddings=CONTEXT,
            num_nextn_predict_layers=0,
            rope_parameters={
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": YARN_FACTOR,
                "original_max_position_embeddings": ORIGINAL_CONTEXT,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
            },
        )
        self.model = DeepseekV3ForCausalLM(config).double().eval()
        self.model.set_attn_implementation("eager")
        self.model.set_experts_implementation("eager")
        self.model.load_state_dict(self.state(tensors))
        self.routed = []
        for layer in self.model.model.layers[DENSE:]:
            layer.mlp.gate.register_forward_hook(lambda gate, _, out: self.routed.append((gate, out[0])))

    @staticmethod
    def state(tensors):
        tensors = {name: torch.tensor(tensor, dtype=torch.float64) for name, tensor in tensors.items()}
        state = {
            "model.embed_tokens.weight": tensors.pop("token_embd.weight"),
            "model.norm.weight": tensors.pop("output_norm.weight"),
            "lm_head.weight": tensors.pop("output.weight"),
        }
        for layer in range(LAYERS):
            ours, theirs = f"blk.{layer}.", f"model.layers.{layer}."
            k_b, v_b = tensors.pop(ours + "attn_k_b.weight"), tensors.pop(ours + "attn_v_b.weight")
            state[theirs + "self_attn.kv_b_proj.weight"] = torch.cat([k_b.mT, v_b], 1).flatten(0, 1)
            if layer >= DENSE:
                gate_up = [tensors.pop(ours + f"ffn_{part}_exps.weight") for part in ("gate", "up")]
                state[theirs + "mlp.experts.gate_up_proj"] = torch.cat(gate_up, 1)
        for name, tensor in tensors.items():
            _, layer, rest = name.split(".", 2)
            state[f"model.layers.{layer}.{NAMES[rest]}"] = tensor
        return state

    @torch.no_grad()
    def run(self, ids):
        """Logits, and how far each token's choice of experts is from another: [texts, tokens, …]."""
        self.routed.clear()
        logits = self.model(torch.tensor(ids), use_cache=False).logits
        margin = torch.stack([clearness(gate, scores) for gate, scores in self.routed]).amin(0)
        return logits.numpy(), margin.view(logits.shape[:-1]).numpy()


def clearness(gate, logits):
    """By how much scores the worst chosen better than the best that is not, of groups and of experts."""
    scores = logits.sigmoid() + gate.e_score_correction_bias
    groups = scores.view(-1, GROUPS, EXPERTS // GROUPS)
    by_group = groups.topk(2).values.sum(-1).sort(descending=True)
    allowed = groups.gather(1, by_group.indices[:, :GROUPS_USED, None].expand(-1, -1, EXPERTS // GROUPS))
    by_expert = allowed.flatten(1).sort(descending=True)
    gap = lambda found, n: found.values[:, n - 1] - found.values[:, n]
    return torch.minimum(gap(by_group, GROUPS_USED), gap(by_expert, USED))


def clear_prompt(rng, references, ordinary):
    """A random prompt on whose routing all of the models are clear."""
    ids = [0]
    while len(ids) < PROMPT:
        candidates = rng.choice(ordinary, CANDIDATES, replace=False)
        margins = np.full(CANDIDATES, np.inf)
        for reference in references:
            _, margin = reference.run([ids + [candidate] for candidate in candidates.tolist()])
            margins = np.minimum(margins, margin[:, -1])
            # Two thirds go on to the next model.
            best = np.argsort(-margins)[: len(margins) * 2 // 3]
            candidates, margins = candidates[best], margins[best]
        ids.append(int(candidates[0]))
    return ids


# --- As GGUF


def write_gguf(path, like, tensors):
    """The tensors with the metadata of the file `like`, but for METADATA."""
    fields = GGUFReader(like).fields
    writer = GGUFWriter(path, "deepseek2")
    for key, field in fields.items():
        value = METADATA.get(key, field.contents())
        if key.startswith("GGUF.") or key == "general.architecture" or value is None:
            continue
        element = field.types[1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(key, value, field.types[0], element)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    finish(writer)


def write_importances(path, rng, tensors):
    """Random importances, the same for all experts of a tensor, in the form that llama-imatrix writes."""
    writer = GGUFWriter(path, "")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["random"])
    writer.add_uint32("imatrix.chunk_count", 1)
    writer.add_uint32("imatrix.chunk_size", 512)
    for name, tensor in tensors.items():
        if name.startswith("blk.") and tensor.ndim > 1 and "gate_inp" not in name:
            experts = tensor.shape[0] if tensor.ndim == 3 else 1
            sums = np.tile(rng.uniform(0.5, 2.0, tensor.shape[-1]), (experts, 1))
            writer.add_tensor(name + ".in_sum2", sums.astype(np.float32))
            writer.add_tensor(name + ".counts", np.ones((experts, 1), np.float32))
    finish(writer)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_values(path):
    """The values that a file's tensors stand for."""
    return {
        tensor.name: dequantize(tensor.data, tensor.tensor_type).reshape(tensor.shape[::-1])
        for tensor in GGUFReader(path).tensors
    }


def ordinary_tokens(path):
    types = GGUFReader(path).fields["tokenizer.ggml.token_type"].contents()
    return [id for id, kind in enumerate(types) if kind == 1]


# --- llama.cpp


class Llama:
    """The programs of a build."""

    def __init__(self, build, work):
        self.work, self.bin = work, build.resolve() / "bin"
        cache = (build / "CMakeCache.txt").read_text()
        source = Path(re.search(r"^CMAKE_HOME_DIRECTORY:INTERNAL=(.*)$", cache, re.M)[1])
        includes = [f"-I{source / folder}" for folder in ("include", "ggml/include")]
        libraries = ["-lllama", "-lggml", "-lggml-base", f"-L{self.bin}", f"-Wl,-rpath,{self.bin}"]
        program = [TOOLS / "llama-logits.cpp", "-o", "llama-logits"]
        self.call("c++", "-std=c++17", "-O2", *includes, *program, *libraries)

    def call(self, *command):
        # In the working folder, since llama-quantize writes the path of the importances into its output.
        done = subprocess.run(list(map(str, command)), cwd=self.work, errors="replace", capture_output=True)
        if done.returncode != 0:
            raise SystemExit(f"{command[0]} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")

    def quantize(self, source, target, mix):
        base, routed, downs = MIXES[mix]
        types = {r"ffn_(gate|up)_exps": routed} | TYPES
        types |= {rf"blk\.{DENSE + i}\.ffn_down_exps": down for i, down in enumerate(downs)}
        options = [option for pattern, kind in types.items() for option in ("--tensor-type", f"{pattern}={kind}")]
        options += ["--token-embedding-type", "q4_k", "--output-tensor-type", "q6_k", "--imatrix", "importances.gguf"]
        self.call(self.bin / "llama-quantize", *options, source, target, base, 1)

    def logits(self, model, ids, *options):
        (self.work / "tokens.json").write_text(json.dumps(ids))
        self.call("./llama-logits", model, "tokens.json", "logits.f32", *options)
        return np.fromfile(self.work / "logits.f32", "<f4").reshape(len(ids), VOCAB)


# --- All together


def pack(path, data):
    path.write_bytes(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))


def archive(paths):
    """A tar of files, without times and owners, so that the same data is the same archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in paths:
            info = tarfile.TarInfo(path.name)
            info.size = path.stat().st_size
            with open(path, "rb") as file:
                tar.addfile(info, file)
    return out.getvalue()


def shorten(logits):
    """Twelve significant bits, since more of them are noise where activations are quantised."""
    mantissa, exponent = np.frexp(logits)
    return np.ldexp(np.round(mantissa * 4096) / 4096, exponent)


def distance(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("folder", type=Path, nargs="?", default=DATA / "mixes")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(args.seed)

    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        (work / "like.gguf").write_bytes(lzma.decompress((DATA / "parity" / "v3.gguf.xz").read_bytes()))
        llama = Llama(args.build, work)
        tensors = random_model(rng)
        write_gguf(work / "f32.gguf", work / "like.gguf", tensors)
        write_importances(work / "importances.gguf", rng, tensors)
        for mix in MIXES:
            llama.quantize("f32.gguf", f"{mix}.gguf", mix)
        # In one archive, since much of them is the same.
        pack(args.folder / "models.tar.xz", archive([work / f"{mix}.gguf" for mix in MIXES]))

        whole = Reference(tensors)
        exact = {mix: Reference(read_values(work / f"{mix}.gguf")) for mix in MIXES}
        ids = clear_prompt(rng, [whole, *exact.values()], ordinary_tokens(work / "like.gguf"))
        positions = np.arange(3, PROMPT, 4)

        reference, _ = whole.run([ids])
        same = distance(llama.logits("f32.gguf", ids, "--kv", "f32"), reference[0])
        print(f"logits' deviation {reference.std():.2f}; llama.cpp in F32 against the reference {same:.1e}")
        golden = {"reference": reference[0]}
        print("mix      llama/reference  exact/reference  llama/exact  llama_fa/llama  margin of bos, of others")
        for mix in MIXES:
            logits, margin = exact[mix].run([ids])
            golden[f"{mix}.exact"] = truth = logits[0]
            golden[f"{mix}.llama"] = plain = llama.logits(f"{mix}.gguf", ids)
            golden[f"{mix}.llama_fa"] = flash = llama.logits(f"{mix}.gguf", ids, "--fa", "1")
            pairs = [(plain, reference[0]), (truth, reference[0]), (plain, truth), (flash, plain)]
            numbers = [distance(a, b) for a, b in pairs] + [margin[0, 0], margin[0, 1:].min()]
            print(f"{mix:8} " + "  ".join(f"{number:11.5f}" for number in numbers))

    golden = {name: rows[positions].astype(np.float32) for name, rows in golden.items()}
    golden = {name: rows if name.endswith(".exact") else shorten(rows) for name, rows in golden.items()}
    golden |= {"tokens": np.array(ids, np.int32), "positions": positions.astype(np.int32)}
    pack(args.folder / "golden.safetensors.xz", save(golden))
    for path in sorted(args.folder.iterdir()):
        print(f"{path.stat().st_size:9} {path.name}")


if __name__ == "__main__":
    main()
