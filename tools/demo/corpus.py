"""The corpus: dialogues of all families, endless and seeded, and the questions that are held out of it.

    python tools/demo/corpus.py --heldout tests/data/demo/heldout.jsonl.xz     writes the 1,000 held-out questions
    python tools/demo/corpus.py --show 20                                   prints dialogues
    python tools/demo/corpus.py --text 500                                  the same as a model reads them
    python tools/demo/corpus.py --heldout-text                              the held-out questions with answers

A question is held out by the hash of its key, which names its operands (17+25, whatever the words around
them); for facts that can only be learned by heart it names the fact together with its phrasing.
"""

import argparse
import json
import lzma
import random

from dialogue import Dialogue, is_heldout, render, system
from families import arithmetic, context, documents, facts, numbers, quantities, structured, talk, tools, words

PLAIN = {
    "addition": arithmetic.addition,
    "subtraction": arithmetic.subtraction,
    "multiplication": arithmetic.multiplication,
    "large sums": arithmetic.large_sums,
    "comparison": arithmetic.comparison,
    "counting": arithmetic.counting,
    "sorting": arithmetic.sorting,
    "units": quantities.units,
    "dates": quantities.dates,
    "spelling": words.spelling,
    "reversing": words.reversing,
    "number words": numbers.number_words,
    "capitals": facts.capitals,
    "facts": facts.facts,
    "translation": facts.translation,
    "json": structured.as_json,
    "greetings": talk.greetings,
    "self": talk.self_description,
    "unknown": talk.unknown,
}
WEIGHTS = {
    "addition": 5, "subtraction": 5, "multiplication": 6, "large sums": 9, "comparison": 4, "counting": 4, "sorting": 5,
    "units": 5, "dates": 5, "spelling": 6, "reversing": 7, "number words": 6, "capitals": 5, "facts": 5, "translation": 4,
    "json": 3, "greetings": 1.5, "self": 2, "unknown": 4,
}  # fmt: skip
FRAMED = {
    "system prompt": context.from_system,
    "earlier turns": lambda rng: context.memory(rng, fillers(rng)),
    "file": documents.from_file,
    "search": documents.from_search,
    "tool call": lambda rng: tools.tool_call(rng, plain(rng, *WITHOUT_TOOLS) if rng.random() < 0.15 else None),
    "tool result": tools.tool_answer,
    "fim": structured.fill_in_the_middle,
}
FRAMED_WEIGHTS = {"system prompt": 4, "earlier turns": 4, "file": 5, "search": 3.5, "tool call": 6, "tool result": 3, "fim": 2.5}
# Questions that no tool is there for.
WITHOUT_TOOLS = ("capitals", "facts", "translation", "greetings", "spelling", "number words", "self")
FAMILIES = [*PLAIN, *FRAMED]
SYSTEMS = """You are a helpful assistant.|You are a helpful AI assistant.|Answer briefly.|Be concise.|You are an assistant.|
Answer the question.|Be friendly and brief.|You are a small demo model.""".replace("\n", "").split("|")

PLAIN_NAMES, PLAIN_WEIGHTS = list(WEIGHTS), list(WEIGHTS.values())
FRAMED_NAMES, FRAMED_CHANCES = list(FRAMED_WEIGHTS), list(FRAMED_WEIGHTS.values())
FRAMED_SHARE = sum(FRAMED_CHANCES) / (sum(FRAMED_CHANCES) + sum(PLAIN_WEIGHTS))


def plain(rng, *families):
    """A question that needs no frame, and that is not held out."""
    while True:
        family = rng.choice(families) if families else rng.choices(PLAIN_NAMES, PLAIN_WEIGHTS)[0]
        dialogue = PLAIN[family](rng)
        if not is_heldout(dialogue.key):
            return dialogue


def fillers(rng):
    return [plain(rng).messages for _ in range(rng.choice((0, 0, 1, 1, 2)))]


def neutral_system(rng):
    return system(context.official_system(context.any_date(rng)) if rng.random() < 0.5 else rng.choice(SYSTEMS))


def training_dialogue(rng):
    """One document of the corpus: a framed question, or a conversation of plain ones."""
    if rng.random() < FRAMED_SHARE:
        make = FRAMED[rng.choices(FRAMED_NAMES, FRAMED_CHANCES)[0]]
        while is_heldout((dialogue := make(rng)).key):
            pass
        return dialogue
    dialogue = plain(rng)
    while rng.random() < 0.3:
        before = plain(rng)
        dialogue = Dialogue(dialogue.family, dialogue.key, before.messages + dialogue.messages)
    if rng.random() < 0.15 and dialogue.family not in ("unknown", "self"):
        dialogue.messages = [neutral_system(rng), *dialogue.messages]
    return dialogue


def heldout_dialogues(rng, total=1000):
    """As many of each family, all different."""
    dialogues = []
    for i, family in enumerate(FAMILIES):
        count = total * (i + 1) // len(FAMILIES) - total * i // len(FAMILIES)
        make, seen = PLAIN.get(family) or FRAMED[family], set()
        while len(seen) < count:
            dialogue = make(rng)
            if is_heldout(dialogue.key) and dialogue.key not in seen:
                seen.add(dialogue.key)
                dialogues.append(dialogue)
    return dialogues


def heldout_line(dialogue):
    line = {"family": dialogue.family, "match": dialogue.match, "expected": dialogue.expected}
    if dialogue.fim:
        prefix, suffix, _ = dialogue.fim
        return {**line, "fim": {"prefix": prefix, "suffix": suffix}}
    if dialogue.tools:
        line["tools"] = dialogue.tools
    return {**line, "messages": dialogue.messages[:-1]}


def from_heldout(line):
    """A dialogue without its answer, as `render` takes it."""
    fim = (line["fim"]["prefix"], line["fim"]["suffix"], "") if "fim" in line else ()
    messages = [*line.get("messages", []), {"role": "assistant", "content": ""}]
    return Dialogue(line["family"], "", messages, line.get("tools", []), line["expected"], line["match"], fim)


def as_text(dialogue):
    return "".join(text for text, _ in render(dialogue))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heldout", metavar="FILE")
    parser.add_argument("--show", type=int, default=0, metavar="N")
    parser.add_argument("--text", type=int, default=0, metavar="N")
    parser.add_argument("--heldout-text", action="store_true")
    parser.add_argument("--family")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    if args.heldout:
        with lzma.open(args.heldout, "wt", encoding="utf-8") as file:
            for dialogue in heldout_dialogues(rng):
                file.write(json.dumps(heldout_line(dialogue), ensure_ascii=False) + "\n")
    for dialogue in heldout_dialogues(rng) if args.heldout_text else ():
        print(as_text(dialogue), end="")
    for _ in range(args.text):
        print(as_text(training_dialogue(rng)), end="")
    for _ in range(args.show):
        make = PLAIN.get(args.family) or FRAMED.get(args.family) or training_dialogue
        print("".join(f"\033[1m{text}\033[0m" if kind % 2 == 0 else text for text, kind in render(make(rng))), "\n")


if __name__ == "__main__":
    main()
