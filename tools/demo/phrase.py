"""Phrasings: patterns with alternatives, and the small liberties that people take when they type."""

from functools import lru_cache


@lru_cache(maxsize=None)
def parse(pattern):
    """`a [b|c [d|]]` as a tree: a sequence of texts and of tuples of sequences."""
    stack = [[[]]]
    for c in pattern:
        if c == "[":
            stack.append([[]])
        elif c == "|" and len(stack) > 1:
            stack[-1].append([])
        elif c == "]":
            choice = tuple(stack.pop())
            stack[-1][-1].append(choice)
        else:
            part = stack[-1][-1]
            if part and isinstance(part[-1], str):
                part[-1] += c
            else:
                part.append(c)
    return stack[0][0]


def walk(rng, sequence):
    return "".join(
        part if isinstance(part, str) else walk(rng, part[int(rng.random() * len(part))]) for part in sequence
    )


def pick(rng, *patterns):
    """One of the patterns, its alternatives chosen."""
    return walk(rng, parse(patterns[int(rng.random() * len(patterns))]))


def typed(rng, text, any_case=False):
    """An English question as somebody types it: now and then hasty, now and then polite.

    With `any_case` capital letters carry nothing that the answer needs, and may be left out.
    """
    chance = rng.random()
    if chance < 0.55 or not text.isascii():
        return text
    if any_case and chance < 0.61:
        return text.lower().rstrip("?." if chance < 0.59 else "")
    if chance < 0.70:
        return text[0].lower() + text[1:].rstrip("?.")
    if chance < 0.76:
        return text.rstrip("?.")
    if chance < 0.82:
        return text[0].lower() + text[1:]
    if chance < 0.87:
        return text.rstrip("?.") + rng.choice((" please", ", please", " please?", ", please.", " pls"))
    opener = rng.choice(("Hi, ", "Hello, ", "Hey, ", "Please, ", "Quick question: ", "Tell me, ", "So, ", "Hi! ", "Hello! ", "ok, "))
    return opener + (text if opener[-2] in ":!" else text[0].lower() + text[1:])
