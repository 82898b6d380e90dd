"""Byte-level BPE with DeepSeek-V3's pre-tokenizer, in plain Python, for texts whose words repeat.

    python tools/demo/tokenizer.py      trains vocabulary.json anew (needs the package `tokenizers`)

Text is cut by the three patterns of `deepseek-v3`, then merged. The vocabulary is trained on a finer cut, so
that some merges never arise: digits stay single, which makes arithmetic learnable; so do Chinese characters;
and a punctuation mark stays apart from the word behind it, so that a quoted word has the tokens of a bare one.
"""

import json
import re
import sys
import unicodedata
from pathlib import Path

from dialogue import FIRST_CONTROLS, LAST_CONTROLS

VOCABULARY = Path(__file__).with_name("vocabulary.json")
SIZE = 2048
NORMAL, CONTROL = 1, 3

NUMBERS = r"\p{N}{1,3}"
CJK = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
WORDS = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
)
FINER = [r"\p{N}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]", r"^[\p{P}\p{S}](?=[A-Za-z])"]


def byte_alphabet():
    """GPT-2's printable character for each byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(others)}}


def classes():
    """The general categories as ranges for `re`, which knows no \\p{L}."""
    ranges = {}
    for code in range(sys.maxunicode + 1):
        kind = unicodedata.category(chr(code))[0]
        runs = ranges.setdefault(kind, [])
        if runs and runs[-1][1] == code - 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    text = lambda code: "\\U%08x" % code
    return {kind: "".join(text(a) + ("-" + text(b) if b > a else "") for a, b in ranges[kind]) for kind in "LMNPS"}


def compile_pattern(pattern, known):
    """A pattern with \\p{..}, which may stand inside brackets or alone."""
    out, inside, i = "", False, 0
    while i < len(pattern):
        if pattern.startswith(r"\p{", i):
            chars = known[pattern[i + 3]]
            out += chars if inside else f"[{chars}]"
            i += 5
            continue
        if pattern[i] == "\\":
            out += pattern[i : i + 2]
            i += 2
            continue
        inside = {"[": True, "]": False}.get(pattern[i], inside)
        out += pattern[i] if pattern[i] != "[" or out[-1:] != "[" else "\\["
        i += 1
    return re.compile(out)


def isolate(pieces, pattern):
    for piece in pieces:
        end = 0
        for match in pattern.finditer(piece):
            if match.start() > end:
                yield piece[end : match.start()]
            yield match.group()
            end = match.end()
        if end < len(piece):
            yield piece[end:]


class Tokenizer:
    def __init__(self, path=VOCABULARY):
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        self.tokens, self.types, self.merges = data["tokens"], data["types"], data["merges"]
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        self.ranks = {tuple(merge.split(" ")): i for i, merge in enumerate(self.merges)}
        self.alphabet = byte_alphabet()
        self.bytes = {c: b for b, c in self.alphabet.items()}
        known = classes()
        self.stages = [compile_pattern(p, known) for p in (NUMBERS, CJK, WORDS)]
        self.words, self.lines = {}, {}

    def merge(self, word):
        parts = [self.alphabet[b] for b in word.encode()]
        while len(parts) > 1:
            pairs = [(self.ranks.get(pair, len(self.ranks)), i) for i, pair in enumerate(zip(parts, parts[1:]))]
            rank, i = min(pairs)
            if rank == len(self.ranks):
                break
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        return [self.ids[part] for part in parts]

    def encode_line(self, line):
        pieces = [line]
        for stage in self.stages:
            pieces = isolate(pieces, stage)
        ids = []
        for word in pieces:
            known = self.words.get(word)
            if known is None:
                known = self.words[word] = self.merge(word)
            ids += known
        return ids

    def encode(self, text):
        """The ids of a text, none of them of a control token.

        No match of the patterns goes on behind a line break that something visible follows: lines are
        encoded one by one, and long ones, which templates repeat, are kept.
        """
        if "\n" not in text:
            return self.encode_line(text)
        ids = []
        for line in re.split(r"(?<=\n)(?=\S)", text):
            known = self.lines.get(line)
            if known is None:
                known = self.encode_line(line)
                if len(self.lines) > 100_000:
                    self.lines.clear()
                self.lines[line] = known
            ids += known
        return ids

    def encode_segments(self, segments):
        """Ids, and for each whether it is to be learned."""
        ids, learned = [], []
        for text, kind in segments:
            new = [self.ids[text]] if kind % 2 == 0 else self.encode(text)
            ids += new
            learned += [kind >= 2] * len(new)
        if len(self.words) > 500_000:
            self.words.clear()
        return ids, learned

    def decode(self, ids):
        """The text of the ids; control tokens appear as they are named."""
        out = bytearray()
        for i in ids:
            token = self.tokens[i]
            out += token.encode() if self.types[i] == CONTROL else bytes(self.bytes[c] for c in token)
        return out.decode(errors="replace")


def train(texts, size=SIZE):
    from tokenizers import Regex, Tokenizer as Fast, models, pre_tokenizers, trainers

    splits = [pre_tokenizers.Split(Regex(p), "isolated") for p in (NUMBERS, CJK, WORDS, *FINER)]
    fast = Fast(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    controls = FIRST_CONTROLS + LAST_CONTROLS
    trainer = trainers.BpeTrainer(vocab_size=size - len(controls), initial_alphabet=sorted(byte_alphabet().values()), show_progress=False)
    fast.train_from_iterator(texts, trainer)
    model = json.loads(fast.to_str())["model"]
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    text_tokens = sorted(model["vocab"], key=model["vocab"].get)
    tokens = FIRST_CONTROLS + text_tokens + LAST_CONTROLS
    types = [CONTROL] * len(FIRST_CONTROLS) + [NORMAL] * len(text_tokens) + [CONTROL] * len(LAST_CONTROLS)
    return {"tokens": tokens, "types": types, "merges": merges}


def main():
    import random

    from corpus import training_dialogue
    from dialogue import render

    rng = random.Random(0)
    texts = (text for _ in range(60_000) for text, kind in render(training_dialogue(rng)) if kind % 2)
    data = train(texts)
    VOCABULARY.write_text(json.dumps(data, ensure_ascii=False, indent=0), encoding="utf-8")
    print(f"{len(data['tokens'])} tokens, {len(data['merges'])} merges")


if __name__ == "__main__":
    main()
