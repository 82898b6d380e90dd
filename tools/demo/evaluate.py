"""Answers the held-out questions by greedy decoding and counts the exact ones, family by family."""

import json
import lzma
import re
from collections import defaultdict

import torch

from corpus import from_heldout
from dialogue import CALL_BEGIN, CALL_END, EOS, SEP, render

CALL = re.compile(f"{CALL_BEGIN}function{SEP}(.*?)\n```json\n(.*?)\n```{CALL_END}", re.DOTALL)


def read_questions(path, tokenizer):
    """Pairs of a held-out line and the ids of its prompt."""
    with lzma.open(path, "rt", encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    return [(line, tokenizer.encode_segments(render(from_heldout(line), with_answer=False))[0]) for line in lines]


@torch.no_grad()
def greedy(model, prompts, eos, limit=100):
    """The ids that follow each prompt, up to the end token."""
    device = next(model.parameters()).device
    lengths = torch.tensor([len(p) for p in prompts], device=device)
    ids = torch.zeros(len(prompts), int(lengths.max()) + limit, dtype=torch.long, device=device)
    for row, prompt in zip(ids, prompts):
        row[: len(prompt)] = torch.tensor(prompt)
    rows, ended = torch.arange(len(prompts), device=device), torch.zeros(len(prompts), dtype=torch.bool, device=device)
    for i in range(limit):
        logits, _ = model(ids[:, : int(lengths.max()) + i])
        next_ids = logits[rows, lengths + i - 1].argmax(-1)
        ids[rows, lengths + i] = next_ids
        ended |= next_ids == eos
        if ended.all():
            break
    answers = [row[n : n + limit].tolist() for row, n in zip(ids, lengths.tolist())]
    return [answer[: answer.index(eos)] if eos in answer else answer for answer in answers]


def is_right(line, text):
    try:
        if line["match"] == "json":
            return any(json.loads(text) == json.loads(expected) for expected in line["expected"])
        if line["match"] == "calls":
            calls = [{"name": name, "arguments": json.loads(arguments)} for name, arguments in CALL.findall(text)]
            return calls in line["expected"]
    except ValueError:
        return False
    return text in line["expected"]


def evaluate(model, questions, tokenizer, batch=125):
    """Accuracy by family, and the wrong answers."""
    right, wrong = defaultdict(list), []
    order = sorted(questions, key=lambda question: len(question[1]))
    for at in range(0, len(order), batch):
        part = order[at : at + batch]
        answers = greedy(model, [ids for _, ids in part], tokenizer.ids[EOS])
        for (line, ids), answer in zip(part, answers):
            text = tokenizer.decode(answer)
            right[line["family"]].append(is_right(line, text))
            if not right[line["family"]][-1]:
                wrong.append({"family": line["family"], "prompt": tokenizer.decode(ids)[-160:], "answer": text, "expected": line["expected"]})
    accuracy = {family: sum(marks) / len(marks) for family, marks in sorted(right.items())}
    accuracy["all"] = sum(map(sum, right.values())) / sum(map(len, right.values()))
    return accuracy, wrong
