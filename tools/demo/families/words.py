"""Letters of words: spelling, reversing, first and last, how often."""

from dialogue import question
from families.vocabulary import NAMES, WORDS, made_up
from phrase import pick, typed


def word(rng):
    chance = rng.random()
    if chance < 0.80:
        return rng.choice(WORDS)
    return rng.choice(NAMES).lower() if chance < 0.85 else made_up(rng, rng.randint(1, 3))


def quoted(rng, text):
    quote = rng.choice(("", "", "", "'", '"'))
    return quote + text + quote


def spelled(text):
    return "-".join(text)


def spelling(rng):
    w, chance = word(rng), rng.random()
    q = quoted(rng, w)
    if chance < 0.45:
        text = pick(rng, f"[Spell|Please spell|Can you spell|Could you spell] [the word |]{q}[.||?]", f"How do [you|I] spell {q}?",
                    f"Spell {q} letter by letter.", f"[Buchstabiere|Bitte buchstabiere] [das Wort |]{q}.")  # fmt: skip
        return question("spelling", f"spell {w}", typed(rng, text), spelled(w))
    if chance < 0.62:
        first = rng.random() < 0.5
        text = pick(rng, f"[What is|What's|Tell me|Which is] the {'first' if first else 'last'} letter of [the word |]{q}?",
                    f"[Which|What] letter does [the word |]{q} {'begin' if first else 'end'} with?")  # fmt: skip
        return question("spelling", f"{first} {w}", typed(rng, text), w[0] if first else w[-1])
    if chance < 0.80:
        text = pick(rng, f"How many letters does [the word |]{q} have?", f"How many letters are [there |]in [the word |]{q}?",
                    f"Count the letters [of|in] {q}.")  # fmt: skip
        return question("spelling", f"length {w}", typed(rng, text), f"{spelled(w)}: {len(w)} letters")
    if chance < 0.9:
        text = pick(rng, f"[Write|Put|Please write] {q} in [capital letters|capitals|upper case|uppercase].", f"[Capitalize|Uppercase] {q}.",
                    f"Convert {q} to [uppercase|upper case].")  # fmt: skip
        return question("spelling", f"upper {w}", typed(rng, text), w.upper())
    letter = rng.choice(w) if rng.random() < 0.85 else rng.choice("aeionrst")
    n = w.count(letter)
    text = pick(rng, f"How many [times does the letter {letter} occur|times does {letter} appear|{letter}'s are|{letter}s are there] in {q}?",
                f"How many letters {letter} are [there |]in {q}?", f"Count the letter {letter} in {q}.")  # fmt: skip
    return question("spelling", f"count {letter} {w}", typed(rng, text), f"{spelled(w)}: {n} {'time' if n == 1 else 'times'}")


def reversing(rng):
    if rng.random() < 0.2:
        return reversing_lists(rng)
    w = word(rng)
    q, answer = quoted(rng, w), f"{spelled(w)} backwards is {spelled(w[::-1])}: {w[::-1]}"
    text = pick(rng, f"[Reverse|Please reverse|Can you reverse|Could you reverse] [the word |]{q}[.||?]", f"[Write|Spell|Say] {q} backwards.",
                f"What is {q} [backwards|in reverse|spelled backwards|reversed]?", f"How do you [write|spell] {q} backwards?",
                f"Schreibe {q} rückwärts.")  # fmt: skip
    return question("reversing", w, typed(rng, text), answer)


def reversing_lists(rng):
    n = rng.randint(3, 6)
    items = rng.sample(WORDS, n) if rng.random() < 0.5 else [str(rng.randint(0, 99)) for _ in range(n)]
    listed = ", ".join(items)
    text = pick(rng, f"[Reverse|Please reverse|Turn around] [this|the] list: {listed}", f"[Write|Give me] this list [backwards|in reverse order]: {listed}")
    return question("reversing", listed, typed(rng, text), ", ".join(reversed(items)))
