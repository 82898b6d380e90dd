"""Writes trained weights as a GGUF file, with the names, layout and keys of DeepSeek-V3-0324's.

    python tools/demo/convert.py FOLDER MODEL.gguf [--type f32|f16|q8_0]

FOLDER is what train.py wrote. Needs numpy only.
"""

import argparse
import json
import struct
from pathlib import Path

import numpy as np

from dialogue import BOS, EOS, PAD
from tokenizer import VOCABULARY

ALIGNMENT = 32
U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7}
TENSOR_TYPES = {"f32": 0, "f16": 1, "q8_0": 8}

# DeepSeek-V3-0324's format: system texts first; <｜Assistant｜> follows each user message; results of tools are
# in one bracket.
CHAT_TEMPLATE = """\
{%- set ns = namespace(system=[], results=false, last='') -%}
{%- for m in messages if m.role == 'system' -%}{%- set ns.system = ns.system + [m.content] -%}{%- endfor -%}
{{- bos_token + ns.system | join('\\n\\n') -}}
{%- for m in messages if m.role != 'system' -%}
{%- if ns.results and m.role != 'tool' -%}{{- '<｜tool▁outputs▁end｜>' -}}{%- set ns.results = false -%}{%- endif -%}
{%- if m.role == 'user' -%}{{- '<｜User｜>' + m.content + '<｜Assistant｜>' -}}
{%- elif m.role == 'assistant' -%}
{{- m.content or '' -}}
{%- for call in m.tool_calls or [] -%}
{{- '<｜tool▁calls▁begin｜>' if loop.first else '\\n' -}}
{{- '<｜tool▁call▁begin｜>function<｜tool▁sep｜>' + call.function.name + '\\n```json\\n' + call.function.arguments + '\\n```<｜tool▁call▁end｜>' -}}
{{- '<｜tool▁calls▁end｜>' if loop.last -}}
{%- endfor -%}
{{- '<｜end▁of▁sentence｜>' -}}
{%- elif m.role == 'tool' -%}
{{- '\\n' if ns.results else '<｜tool▁outputs▁begin｜>' -}}
{{- '<｜tool▁output▁begin｜>' + m.content + '<｜tool▁output▁end｜>' -}}{%- set ns.results = true -%}
{%- endif -%}
{%- set ns.last = m.role -%}
{%- endfor -%}
{%- if ns.results -%}{{- '<｜tool▁outputs▁end｜>' -}}
{%- elif add_generation_prompt and ns.last != 'user' -%}{{- '<｜Assistant｜>' -}}{%- endif -%}"""


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def value(kind, content):
    if kind == STRING:
        return string(content)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], content)


def entry(key, kind, content):
    """A key and its value; a pair as kind is an array of the second."""
    if isinstance(kind, tuple):
        items = b"".join(value(kind[1], item) for item in content)
        return string(key) + struct.pack("<iiQ", ARRAY, kind[1], len(content)) + items
    return string(key) + struct.pack("<i", kind) + value(kind, content)


def metadata(c, file_type):
    vocabulary = json.loads(VOCABULARY.read_text(encoding="utf-8"))
    tokens = vocabulary["tokens"]
    d = "deepseek2."
    return [
        ("general.architecture", STRING, "deepseek2"),
        ("general.type", STRING, "model"),
        ("general.name", STRING, "Cachalot demo"),
        ("general.size_label", STRING, f"{c.n_expert}x1M"),
        (d + "block_count", U32, c.n_layer),
        (d + "context_length", U32, int(c.yarn_context * c.yarn_factor)),
        (d + "embedding_length", U32, c.n_embd),
        (d + "feed_forward_length", U32, c.n_ff),
        (d + "attention.head_count", U32, c.n_head),
        (d + "attention.head_count_kv", U32, 1),
        (d + "rope.scaling.type", STRING, "yarn"),
        (d + "rope.scaling.factor", F32, c.yarn_factor),
        (d + "rope.scaling.original_context_length", U32, c.yarn_context),
        (d + "rope.scaling.yarn_beta_fast", F32, 32.0),
        (d + "rope.scaling.yarn_beta_slow", F32, 1.0),
        (d + "rope.freq_base", F32, c.rope_base),
        (d + "attention.layer_norm_rms_epsilon", F32, c.rms_eps),
        (d + "expert_count", U32, c.n_expert),
        (d + "expert_used_count", U32, c.n_used),
        (d + "expert_group_count", U32, c.n_group),
        (d + "expert_group_used_count", U32, c.n_group_used),
        (d + "expert_gating_func", U32, 2),
        (d + "attention.key_length", U32, c.kv_lora + c.n_rot),
        (d + "attention.value_length", U32, c.kv_lora),
        ("general.file_type", U32, FILE_TYPES[file_type]),
        (d + "leading_dense_block_count", U32, c.n_dense),
        (d + "vocab_size", U32, c.n_vocab),
        (d + "attention.q_lora_rank", U32, c.q_lora),
        (d + "attention.kv_lora_rank", U32, c.kv_lora),
        (d + "attention.key_length_mla", U32, c.n_nope + c.n_rot),
        (d + "attention.value_length_mla", U32, c.n_value),
        (d + "expert_feed_forward_length", U32, c.n_ff_expert),
        (d + "expert_shared_count", U32, 1),
        (d + "expert_weights_scale", F32, c.weights_scale),
        (d + "expert_weights_norm", BOOL, True),
        (d + "rope.dimension_count", U32, c.n_rot),
        (d + "rope.scaling.yarn_log_multiplier", F32, 0.1),
        ("general.quantization_version", U32, 2),
        ("tokenizer.ggml.model", STRING, "gpt2"),
        ("tokenizer.ggml.pre", STRING, "deepseek-v3"),
        ("tokenizer.ggml.tokens", (ARRAY, STRING), tokens),
        ("tokenizer.ggml.token_type", (ARRAY, I32), vocabulary["types"]),
        ("tokenizer.ggml.merges", (ARRAY, STRING), vocabulary["merges"]),
        ("tokenizer.ggml.bos_token_id", U32, tokens.index(BOS)),
        ("tokenizer.ggml.eos_token_id", U32, tokens.index(EOS)),
        ("tokenizer.ggml.padding_token_id", U32, tokens.index(PAD)),
        ("tokenizer.ggml.add_bos_token", BOOL, True),
        ("tokenizer.ggml.add_eos_token", BOOL, False),
        ("tokenizer.chat_template", STRING, CHAT_TEMPLATE),
    ]


def stays_f32(name, array):
    return array.ndim == 1 or name.endswith(("ffn_gate_inp.weight", ".bias"))


def q8_0(array):
    """Blocks of 32 values: a scale as F16 and the values as bytes."""
    blocks = array.reshape(-1, 32).astype(np.float32)
    scale = np.abs(blocks).max(1, keepdims=True) / np.float32(127)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    scaled = blocks * inverse
    quants = (np.sign(scaled) * np.floor(np.abs(scaled) + np.float32(0.5))).astype(np.int8)  # halves away from zero
    return np.concatenate((scale.astype("<f2").view(np.int8), quants), 1).tobytes()


def encode(name, array, file_type):
    """The type of a tensor and its bytes."""
    if file_type == "f32" or stays_f32(name, array):
        return "f32", array.astype("<f4").tobytes()
    return file_type, array.astype("<f2").tobytes() if file_type == "f16" else q8_0(array)


def write_gguf(path, config, tensors, file_type):
    entries = [entry(*item) for item in metadata(config, file_type)]
    infos, blobs, offset = [], [], 0
    for name, array in tensors.items():
        kind, data = encode(name, array, file_type)
        shape = array.shape[::-1]
        infos.append(string(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape) + struct.pack("<iQ", TENSOR_TYPES[kind], offset))
        blobs.append(data + bytes(-len(data) % ALIGNMENT))
        offset += len(blobs[-1])
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(entries)) + b"".join(entries + infos)
    Path(path).write_bytes(head + bytes(-len(head) % ALIGNMENT) + b"".join(blobs))


def main():
    from export import load

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("output")
    parser.add_argument("--type", choices=list(FILE_TYPES), default="f16")
    args = parser.parse_args()
    write_gguf(args.output, *load(args.folder), args.type)


if __name__ == "__main__":
    main()
