"""The weights of a model under GGUF's names and in its layout, in files of at most 14 MB."""

import json
import zlib
from pathlib import Path

import numpy as np

from model import Config, Mixture
from tokenizer import VOCABULARY

PART_BYTES = 14_000_000


def gguf_tensors(model):
    """Name to array; numpy's shape is ggml's from behind."""
    c, tensors = model.config, {}

    def put(name, value):
        tensors[name] = value.detach().float().cpu().contiguous().numpy()

    put("token_embd.weight", model.token_embd)
    put("output_norm.weight", model.output_norm.weight)
    put("output.weight", model.output)
    for i, block in enumerate(model.blocks):
        a, f, b = block.attn, block.ffn, f"blk.{i}."
        put(b + "attn_norm.weight", block.attn_norm.weight)
        put(b + "attn_q_a.weight", a.q_a)
        put(b + "attn_q_a_norm.weight", a.q_a_norm.weight)
        put(b + "attn_q_b.weight", a.q_b)
        put(b + "attn_kv_a_mqa.weight", a.kv_a)
        put(b + "attn_kv_a_norm.weight", a.kv_a_norm.weight)
        put(b + "attn_k_b.weight", a.k_b.view(c.n_head, c.n_nope, c.kv_lora).transpose(1, 2))
        put(b + "attn_v_b.weight", a.v_b.view(c.n_head, c.n_value, c.kv_lora))
        put(b + "attn_output.weight", a.output)
        put(b + "ffn_norm.weight", block.ffn_norm.weight)
        if not isinstance(f, Mixture):
            for part in ("gate", "up", "down"):
                put(f"{b}ffn_{part}.weight", getattr(f, part))
            continue
        put(b + "ffn_gate_inp.weight", f.router)
        put(b + "exp_probs_b.bias", f.bias)
        for part in ("gate", "up", "down"):
            put(f"{b}ffn_{part}_exps.weight", getattr(f, part)[:-1])
            put(f"{b}ffn_{part}_shexp.weight", getattr(f, part)[-1])
    return tensors


def vocabulary_checksum():
    return zlib.crc32(VOCABULARY.read_bytes())


def save(model, folder):
    """Replaces what an earlier save left there."""
    parts, size = [{}], 0
    for name, array in gguf_tensors(model).items():
        if size + array.nbytes > PART_BYTES:
            parts.append({})
            size = 0
        parts[-1][name] = array
        size += array.nbytes
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for i, part in enumerate(parts):
        new = folder / f"new-{i}.npz"
        np.savez(new, **part)
        new.replace(folder / f"weights-{i}.npz")
    (folder / "config.json").write_text(json.dumps({**model.config.as_dict(), "parts": len(parts), "vocabulary": vocabulary_checksum()}))


def load(folder):
    """The configuration and the tensors."""
    folder = Path(folder)
    values = json.loads((folder / "config.json").read_text())
    if values.pop("vocabulary") != vocabulary_checksum():
        raise SystemExit(f"{folder} was trained with another vocabulary.json than stands here")
    tensors = {}
    for i in range(values.pop("parts")):
        with np.load(folder / f"weights-{i}.npz") as part:
            tensors.update({name: part[name] for name in part.files})
    return Config(**values), tensors
