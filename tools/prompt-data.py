#!/usr/bin/env python3
"""Prompts as the models' own chat templates write them, with the ids that the reference tokenizer gives.

usage: prompt-data.py TEMPLATES TOKENIZER.json > prompts.jsonl

TEMPLATES is a folder with v2.jinja, v3.jinja (of V3-0324), r1.jinja and v31.jinja: the chat_template of
each model's published tokenizer_config.json. TOKENIZER.json is in Hugging Face's format. Each line of
output: [family, thinking, messages, prompt, ids].

Needs: jinja2==3.1.6 tokenizers==0.23.3
"""

import json
import random
import sys
from pathlib import Path

from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import AddedToken, Tokenizer

BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
TEXTS = ["Hello!", "你好，世界\n", " 2 + 2 = ", "def f(x):\n    return x", "", '{"k": "v"}', "naïve café 🐳", "end\n\n", "a|b<c>"]
PER_FAMILY = 50


def text(rng):
    return "".join(rng.choice(TEXTS) for _ in range(rng.randint(0, 3)))


def conversation(rng, family):
    """A conversation that the family's template can express."""
    messages = [{"role": "system", "content": text(rng)} for _ in range(rng.randint(0, 2))]
    called = False
    for _ in range(rng.randint(0, 2)):
        messages.append({"role": "user", "content": text(rng)})
        calls = []
        if family in ("v3", "v3.1") or (family == "r1" and not called):
            if rng.random() < 0.4:
                called = True
                calls = range(rng.randint(1, 3))
                messages.append({
                    "role": "assistant",
                    "content": None if rng.random() < 0.5 else "x" + text(rng),
                    "tool_calls": [
                        {"id": str(i), "type": "function", "function": {"name": f"f{i}", "arguments": '{"a": 1}'}}
                        for i in calls
                    ],
                })
                messages.extend({"role": "tool", "tool_call_id": str(i), "content": text(rng)} for i in calls)
                if rng.random() < 0.2:
                    return messages
        # The templates of the reasoning models forget to drop reasoning from answers to tool results.
        reasons = family in ("r1", "v3.1") and not calls and rng.random() < 0.5
        reasoning = "because" + text(rng) + "</think>" if reasons else ""
        messages.append({"role": "assistant", "content": reasoning + text(rng)})
    messages.append({"role": "user", "content": text(rng)})
    return messages


def main():
    templates, tokenizer = Path(sys.argv[1]), Tokenizer.from_file(sys.argv[2])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in ("<think>", "</think>")])
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    env.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    for family, file in [("v2", "v2.jinja"), ("v3", "v3.jinja"), ("r1", "r1.jinja"), ("v3.1", "v31.jinja")]:
        rng = random.Random(family)
        template = env.from_string((templates / file).read_text().rstrip("\n"))
        for _ in range(PER_FAMILY):
            messages = conversation(rng, family)
            thinking = family == "v3.1" and rng.random() < 0.5
            prompt = template.render(
                messages=messages, bos_token=BOS, eos_token=EOS, add_generation_prompt=True, thinking=thinking
            )
            ids = tokenizer.encode(prompt, add_special_tokens=False).ids
            print(json.dumps([family, thinking, messages, prompt, ids], ensure_ascii=False))


main()
