#!/usr/bin/env python3
"""Makes the tokenizer's test data: random lines with the ids that the reference implementation gives.

Needs: pip install tokenizers==0.23.3

    tools/tokenizer-data.py TOKENIZER.JSON FOLDER [--lines N] [--seed S]

TOKENIZER.JSON is that of a small byte-level model with DeepSeek-V3's pre-tokenizer and special tokens.
FOLDER gets `vocabulary.json.xz` and, for each pre-tokenizer, `PRE.jsonl.xz`. Each line of the latter is
[text, ids with special tokens parsed, ids without], the last only where it differs. There are N lines for
deepseek-v3 and a third of N for each of the others. The repository keeps a sample; tests/tokenizer.rs
reads more from the folder that CACHALOT_TOKENIZER_DATA names.
"""

import argparse
import json
import lzma
import random
from pathlib import Path

from tokenizers import Tokenizer

# The letters of `deepseek-llm`, as code points in hexadecimal.
LATIN = """
41-5A 61-7A B5 C0-D6 D8-F6 F8-1BA 1BC-1BF 1C4-293 295-2AF 370-373 376 377 37B-37D 37F 386 388-38A 38C
38E-3A1 3A3-3F5 3F7-481 48A-52F 531-556 10A0-10C5 13A0-13F5 13F8-13FD 1C90-1CBA 1CBD-1CBF 1D00-1D2B
1D6B-1D77 1D79-1D9A 1E00-1F15 1F18-1F1D 1F20-1F45 1F48-1F4D 1F50-1F57 1F59 1F5B 1F5D 1F5F-1F7D 1F80-1FB4
1FB6-1FBC 1FBE 1FC2-1FC4 1FC6-1FCC 1FD0-1FD3 1FD6-1FDB 1FE0-1FEC 1FF2-1FF4 1FF6-1FFC 2102 2107 210A-2113
2115 2119-211D 2124 2126 2128 212A-212D 212F-2134 2139 213C-213F 2145-2149 214E 2183 2184 2C00-2C7B
2C7E-2CE4 2CEB-2CEE 2CF2 2CF3 A640-A66D A680-A69B A722-A76F A771-A787 A78B-A78E AB70-ABBF FB00-FB06
FB13-FB17 FF21-FF3A FF41-FF5A 10400-1044F 104B0-104D3 104D8-104FB 10C80-10CB2 10CC0-10CF2 118A0-118DF
1E900-1E943
"""


def char_class(ranges):
    return "[" + "".join("-".join(chr(int(end, 16)) for end in r.split("-")) for r in ranges.split()) + "]"


CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
SIGNS = "[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]"

# Beside that of the file, the patterns of each pre-tokenizer.
PATTERNS = {
    "deepseek-v3": None,
    "deepseek-llm": [r"[\r\n]", r"\s?" + char_class(LATIN) + "+", r"\s?" + SIGNS + "+", r"\s+$", CJK, r"\p{N}+"],
    "deepseek-coder": [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK, r"\p{N}"],
}


def reference(config, patterns, special):
    config = json.loads(json.dumps(config))
    if patterns:
        split = lambda p: {"type": "Split", "pattern": {"Regex": p}, "behavior": "Isolated", "invert": False}
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        config["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [*map(split, patterns), byte_level]}
    if not special:
        config["added_tokens"] = []
    return Tokenizer.from_str(json.dumps(config))


WORDS = """the and Whale whales depth don't can't I'll x = foo_bar(a, b); -> :: != // /* */ <div> </a> #[test] $HOME
C:\\dir https://example.org/?q=1&r=2 user@example.org "quoted" 'single' `code` **bold** --flag=3.14 1e-9 0xff 1,234,567
深度求索 抹香鲸 你好，世界。 「引用」 日本語の テスト カタカナ ー ゛ 한국어 문장 Привет мир Ελληνικά עברית العربية हिन्दी ภาษาไทย
Grüße naïve café ﬁ ſ ǅ ª º ʰ ½ ² ٣٤ Ⅷ ㊿ ① 〇 × ÷ € £ © ™ … — – ‘ ’ “ ” ！ ？ ： ； （ ） 【 】 、 ～ ￥ ｜ ▁ < | > <｜ ｜> <think> </think>""".split()
SPACES = [" ", "  ", "    ", "\t", "\n", "\r\n", "\n\n", " \n", "\r", "\u00a0", "\u3000", "\u2028", "\u200b", "\u0085", "\v", "\f"]
RANGES = [(0x20, 0x7E), (0x20, 0x7E), (0, 0x1F), (0x7F, 0x24F), (0x250, 0x36F), (0x370, 0x58F), (0x590, 0x6FF),
          (0x900, 0xDFF), (0xE00, 0xEFF), (0x1E00, 0x206F), (0x2070, 0x2BFF), (0x3000, 0x30FF), (0x4E00, 0x9FFF),
          (0x9F90, 0x9FFF), (0xAC00, 0xD7FF), (0xE000, 0xF8FF), (0xFE00, 0xFFFF), (0x10400, 0x1047F),
          (0x1D400, 0x1D7FF), (0x1F300, 0x1FAFF), (0x20000, 0x2A6DF), (0xE0000, 0xE01EF), (0, 0x10FFFF)]


def character(rng):
    while True:
        code = rng.randint(*rng.choice(RANGES))
        if not 0xD800 <= code <= 0xDFFF:
            return chr(code)


def part(rng, specials):
    kind = rng.random()
    if kind < 0.40:
        return rng.choice(WORDS)
    if kind < 0.62:
        return rng.choice(SPACES) * rng.choice([1, 1, 1, 2, 3, 7])
    if kind < 0.70:
        return "".join(rng.choice("0123456789") for _ in range(rng.randint(1, 9)))
    if kind < 0.74:
        return rng.choice(specials)
    if kind < 0.76:
        return rng.choice(specials)[rng.randint(0, 4):-rng.randint(1, 4)]
    if kind < 0.80:
        return character(rng) * rng.randint(2, 20)
    return "".join(character(rng) for _ in range(rng.randint(1, 4)))


def line(rng, specials):
    glue = rng.choice(["", "", " "])
    return glue.join(part(rng, specials) for _ in range(rng.randint(1, 14)))


def write(path, lines):
    with lzma.open(path, "wb", preset=9 | lzma.PRESET_EXTREME) as packed:
        for value in lines:
            packed.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lines", type=int, default=1350)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)

    config = json.loads(args.tokenizer.read_text())
    specials = {token["id"]: token["content"] for token in config["added_tokens"]}
    tokens = specials | {id: token for token, id in config["model"]["vocab"].items()}
    vocabulary = {
        "tokens": [tokens[id] for id in range(len(tokens))],
        "token_types": [3 if id in specials else 1 for id in range(len(tokens))],
        "merges": [" ".join(merge) for merge in config["model"]["merges"]],
    }
    write(args.folder / "vocabulary.json.xz", [vocabulary])

    for pre, patterns in PATTERNS.items():
        rng = random.Random(f"{args.seed} {pre}")
        n_lines = args.lines // 3 if patterns else args.lines
        texts = [line(rng, list(specials.values())) for _ in range(n_lines)]
        parsed, plain = (
            [encoding.ids for encoding in reference(config, patterns, special).encode_batch(texts)]
            for special in (True, False)
        )
        rows = ([t, a] if a == b else [t, a, b] for t, a, b in zip(texts, parsed, plain))
        write(args.folder / f"{pre}.jsonl.xz", rows)


if __name__ == "__main__":
    main()
