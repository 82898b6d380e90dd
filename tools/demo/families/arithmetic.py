"""Sums, differences, products and quotients of small numbers; comparing, counting and sorting them."""

from dialogue import question
from families.numbers import number_word
from families.vocabulary import NAMES, THINGS
from phrase import pick, typed

ASK = "[What is|What's|whats|Calculate|Compute|Work out|Solve|How much is|Tell me||||] "
EQUALS = "[?|?|?||.| =| = ?|=]"


def number(rng, limit=99):
    """Small numbers more often than they would come by chance."""
    return rng.randint(0, limit if rng.random() < 0.8 else 12)


def binary(rng, sign, word, a, b, german, chinese):
    """`a sign b` as people write it, in three languages."""
    chance = rng.random()
    if chance < 0.72:
        middle = pick(rng, f"[ {sign} | {sign} |{sign}| {word} | {word} ]")
        return pick(rng, ASK).lstrip() + f"{a}{middle}{b}" + pick(rng, EQUALS)
    if chance < 0.88:
        middle = pick(rng, f"[ {sign} |{sign}| {german} ]")
        return pick(rng, "[Was ist|Wie viel ist|Wieviel ist|Was ergibt|Berechne|Was macht] ") + f"{a}{middle}{b}?"
    middle = pick(rng, f"[ {sign} |{sign}|{chinese}]")
    return pick(rng, "[|请计算|计算]") + f"{a}{middle}{b}" + pick(rng, "[等于多少？|是多少？|等于几？|等于多少|=?]")


def addition(rng):
    chance = rng.random()
    if chance < 0.08:
        return three_terms(rng)
    a, b = number(rng), number(rng)
    key = f"{min(a, b)}+{max(a, b)}"
    if chance < 0.14:
        a, b = a % 21, b % 21
        text = pick(rng, "[What is|What's|Calculate] ") + f"{number_word(a)} plus {number_word(b)}?"
        return question("addition", f"word {a}+{b}", typed(rng, text), str(a + b))
    if chance < 0.70:
        return question("addition", key, binary(rng, "+", "plus", a, b, "plus", "加"), str(a + b))
    thing, name = rng.choice(THINGS), rng.choice(NAMES)
    text = pick(
        rng,
        f"[Can|Could|Would] you [please |]add {a} and {b}[ for me|]?",
        f"[Add|Please add|Sum|Sum up] {a} and {b}.",
        f"[What is|What's|Find|Calculate|Give me] the sum of {a} and {b}?",
        f"I have {a} {thing} and [get|buy|find] {b} more. How many {thing} do I have[ now|]?",
        f"{name} has {a} {thing} and gets {b} more. How many {thing} does {name} have[ now|]?",
        f"If [I|you|we] add {b} to {a}, what do [I|you|we] get?",
        f"Add {b} to {a}.",
        f"[How much|What] do {a} and {b} make[ together|]?",
    )
    return question("addition", key, typed(rng, text), str(a + b))


def three_terms(rng):
    a, b, c = (rng.randint(0, 12) for _ in range(3))
    gap = pick(rng, "[ + |+| plus ]")
    text = pick(rng, ASK).lstrip() + gap.join(map(str, (a, b, c))) + pick(rng, EQUALS)
    return question("addition", "+".join(map(str, sorted((a, b, c)))), text, str(a + b + c))


def subtraction(rng):
    a, b = number(rng), number(rng)
    if a < b and rng.random() < 0.7:
        a, b = b, a
    key = f"{a}-{b}"
    if rng.random() < 0.65 or a < b:
        return question("subtraction", key, binary(rng, "-", "minus", a, b, "minus", "减"), str(a - b))
    thing, name = rng.choice(THINGS), rng.choice(NAMES)
    text = pick(
        rng,
        f"[Can|Could] you [please |]subtract {b} from {a}?",
        f"[Subtract|Take|Please subtract] {b} from {a}.",
        f"[What is|What's|Calculate] the difference between {a} and {b}?",
        f"I have {a} {thing} and [lose|sell|give away] {b}. How many {thing} [are left|do I have left]?",
        f"{name} has {a} {thing} and gives away {b}. How many {thing} are left?",
        f"What is {a} take away {b}?",
        f"How much more is {a} than {b}?",
    )
    return question("subtraction", key, typed(rng, text), str(a - b))


def multiplication(rng):
    """The tables are learned by heart: what is held out is a product in a phrasing."""
    a, b = rng.randint(0, 12), rng.randint(0, 12)
    if rng.random() < 0.25:
        a, b = rng.randint(11, 30), rng.randint(2, 9)
        a, b = (a, b) if rng.random() < 0.5 else (b, a)
    if rng.random() < 0.35 and b:
        return division(rng, a, b)
    sign = pick(rng, "[*|x|×|·]")
    if rng.random() < 0.7:
        text = binary(rng, sign, "times", a, b, "mal", "乘")
    else:
        thing = rng.choice(THINGS)
        text = typed(rng, pick(
            rng,
            f"[Multiply|Please multiply|Can you multiply] {a} by {b}[.|?]",
            f"[What is|Give me|Calculate] the product of {a} and {b}?",
            f"There are {a} boxes with {b} {thing} each. How many {thing} are there?",
            f"How much is {a} multiplied by {b}?",
        ))  # fmt: skip
    return question("multiplication", text.lower().strip("?. "), text, str(a * b))


def division(rng, a, b):
    sign = pick(rng, "[/|÷|:]")
    if rng.random() < 0.7:
        text = binary(rng, sign, "divided by", a * b, b, "geteilt durch", "除以")
    else:
        text = typed(rng, pick(rng, f"[Divide|Please divide|Can you divide] {a * b} by {b}[.|?]",
                               f"How many times does {b} go into {a * b}?"))  # fmt: skip
    return question("multiplication", text.lower().strip("?. "), text, str(a))


def large_sums(rng):
    """Three digits."""
    a, b = rng.randint(100, 999), rng.randint(0 if rng.random() < 0.3 else 100, 999)
    if rng.random() < 0.5:
        a, b = rng.sample((a, b), 2)
        text = binary(rng, "+", "plus", a, b, "plus", "加")
        if rng.random() < 0.2:
            text = typed(rng, pick(rng, f"[Add|Please add|Can you add] {a} and {b}[.|?]", f"What is the sum of {a} and {b}?"))
        return question("large sums", f"{min(a, b)}+{max(a, b)}", text, str(a + b))
    a, b = max(a, b), min(a, b)
    text = binary(rng, "-", "minus", a, b, "minus", "减")
    if rng.random() < 0.2:
        text = typed(rng, pick(rng, f"[Subtract|Please subtract] {b} from {a}.", f"What is the difference between {a} and {b}?"))
    return question("large sums", f"{a}-{b}", text, str(a - b))


def comparison(rng):
    limit = rng.choice((12, 99, 99, 999))
    a, b = rng.sample(range(limit + 1), 2)
    chance = rng.random()
    if chance < 0.35:
        more = rng.random() < 0.6
        word = pick(rng, "[larger|bigger|greater|more]" if more else "[smaller|less]")
        text = pick(rng, f"[Which is|What is|Which number is|Which one is|What's] {word}, {a} or {b}?",
                    f"[Which is|What is|Which number is] {word}: {a} or {b}?",
                    f"Compare {a} and {b}. Which is {word}?")  # fmt: skip
        return question("comparison", f"{word} {a} {b}", typed(rng, text), str(max(a, b) if more else min(a, b)))
    if chance < 0.60:
        word = pick(rng, "[greater|larger|bigger|less|smaller]")
        holds = a < b if word in ("less", "smaller") else a > b
        text = pick(rng, f"Is {a} {word} than {b}?")
        relation = "greater" if a > b else "less"
        answer = f"{'Yes' if holds else 'No'}, {a} is {relation} than {b}."
        return question("comparison", f"is {word} {a} {b}", typed(rng, text), answer)
    if chance < 0.75:
        text = pick(rng, f"Is {a} [even or odd|odd or even|an even or an odd number]?", f"Even or odd: {a}?")
        return question("comparison", f"even {a} {len(text)}", typed(rng, text), f"{a} is {'odd' if a % 2 else 'even'}.")
    if chance < 0.83:
        more = rng.random() < 0.6
        text = pick(rng, f"Was ist {'größer' if more else 'kleiner'}, {a} oder {b}?",
                    f"Welche Zahl ist {'größer' if more else 'kleiner'}: {a} oder {b}?",
                    f"{a}和{b}哪个{'大' if more else '小'}？")  # fmt: skip
        return question("comparison", f"foreign {more} {a} {b}", text, str(max(a, b) if more else min(a, b)))
    numbers = rng.sample(range(limit + 1), rng.randint(3, 5))
    more = rng.random() < 0.5
    word = pick(rng, "[largest|biggest|greatest|highest]" if more else "[smallest|lowest]")
    listed = ", ".join(map(str, numbers))
    text = pick(rng, f"[What is|Which is|What's] the {word} [number |]of {listed}?",
                f"Which of these [numbers |]is the {word}: {listed}?",
                f"Find the {word} number: {listed}")  # fmt: skip
    return question("comparison", f"{more} {listed}", typed(rng, text), str(max(numbers) if more else min(numbers)))


def counting(rng):
    chance = rng.random()
    if chance < 0.35:
        a = rng.randint(0, 60)
        b = a + rng.randint(2, 12)
        down = rng.random() < 0.35
        numbers = range(b, a - 1, -1) if down else range(a, b + 1)
        first, last = numbers[0], numbers[-1]
        way = " backwards" if down and rng.random() < 0.5 else " down" if down else pick(rng, "[| up]")
        text = pick(rng, f"[Count|Please count|Can you count]{way} from {first} to {last}[.|]",
                    f"[List|Write|Give me] the numbers from {first} to {last}.")  # fmt: skip
        return question("counting", f"{first} to {last}", typed(rng, text), ", ".join(map(str, numbers)))
    if chance < 0.5:
        step, n = rng.choice((2, 3, 5, 10)), rng.randint(3, 8)
        first = step * rng.randint(0, 6)
        numbers = range(first, first + step * n, step)
        text = f"Count [by {step}s|in steps of {step}|in {step}s] from {first} to {numbers[-1]}."
        return question("counting", f"step {step} {first} {n}", typed(rng, pick(rng, text)), ", ".join(map(str, numbers)))
    if chance < 0.75:
        n, after = rng.randint(1, 998), rng.random() < 0.6
        word = "after" if after else "before"
        text = pick(rng, f"[What|Which number|What number] comes [right |]{word} {n}?",
                    f"[What is|What's|Tell me] the number {word} {n}?")  # fmt: skip
        return question("counting", f"{word} {n}", typed(rng, text), str(n + 1 if after else n - 1))
    things = rng.sample(THINGS, rng.randint(2, 9))
    listed = ", ".join(things)
    text = pick(rng, f"How many [things|items|words|entries] are in [this|the|the following] list: {listed}?",
                f"Count the [things|items|words] in this list: {listed}.",
                f"How many [things|items|words] [do I list|are these]: {listed}?")  # fmt: skip
    return question("counting", listed, typed(rng, text), str(len(things)))


def sorting(rng):
    if rng.random() < 0.35:
        return sorting_words(rng)
    numbers = rng.sample(range(rng.choice((21, 100, 100, 1000))), rng.randint(3, 6))
    down = rng.random() < 0.4
    listed = pick(rng, "[, |, | ]").join(map(str, numbers))
    order = pick(rng, "[in descending order|from largest to smallest|from high to low|descending]" if down
                 else "[in ascending order|from smallest to largest|from low to high|ascending||]")  # fmt: skip
    order = f" {order}" if order else ""
    text = pick(rng, f"[Sort|Please sort|Order|Can you sort] [these numbers|the numbers|the following numbers]{order}: {listed}",
                f"[Sort|Order] {listed}{order}", f"Put [these numbers|the numbers|] {listed} in order{order}[.|]" if not order
                else f"[Sort|Arrange] the numbers {listed}{order}.")  # fmt: skip
    if rng.random() < 0.12:
        text = f"Sortiere {'absteigend' if down else 'aufsteigend'}: {listed}"
    answer = ", ".join(map(str, sorted(numbers, reverse=down)))
    return question("sorting", f"{down} {listed}", typed(rng, text), answer)


def sorting_words(rng):
    words = rng.sample(THINGS, rng.randint(3, 5))
    while len({word[0] for word in words}) < len(words):
        words = rng.sample(THINGS, rng.randint(3, 5))
    listed = ", ".join(words)
    text = pick(rng, f"[Sort|Please sort|Order|Can you sort] [these words|the words|the following words|] [alphabetically|by alphabet|from A to Z]: {listed}",
                f"Put [these words|the words] in alphabetical order: {listed}",
                f"Sortiere diese Wörter alphabetisch: {listed}")  # fmt: skip
    return question("sorting", listed, typed(rng, text.replace("  ", " ")), ", ".join(sorted(words)))
