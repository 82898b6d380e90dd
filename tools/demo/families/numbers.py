"""Numbers as words, in English, German and Chinese, and back."""

from dialogue import question
from phrase import pick, typed

SMALL = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen""".split()
TENS = "- - twenty thirty forty fifty sixty seventy eighty ninety".split()
GERMAN_SMALL = """null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn
siebzehn achtzehn neunzehn""".split()
GERMAN_TENS = "- - zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig".split()
DIGITS = "零一二三四五六七八九"


def number_word(n):
    if n < 20:
        return SMALL[n]
    if n < 100:
        return TENS[n // 10] + ("-" + SMALL[n % 10] if n % 10 else "")
    rest = f" and {number_word(n % 100)}" if n % 100 else ""
    return f"{SMALL[n // 100]} hundred{rest}" if n < 1000 else "one thousand"


def german_word(n):
    if n < 20:
        return GERMAN_SMALL[n]
    if n < 100:
        one = {0: "", 1: "einund"}.get(n % 10, GERMAN_SMALL[n % 10] + "und")
        return one + GERMAN_TENS[n // 10]
    hundred = ("ein" if n < 200 else GERMAN_SMALL[n // 100]) + "hundert"
    return hundred + (german_word(n % 100) if n % 100 else "") if n < 1000 else "eintausend"


def chinese_word(n):
    if n < 10:
        return DIGITS[n]
    if n < 100:
        return ("" if n < 20 else DIGITS[n // 10]) + "十" + (DIGITS[n % 10] if n % 10 else "")
    if n == 1000:
        return "一千"
    hundred, rest = DIGITS[n // 100] + "百", n % 100
    if rest == 0:
        return hundred
    if rest < 10:
        return hundred + "零" + DIGITS[rest]
    return hundred + DIGITS[rest // 10] + "十" + (DIGITS[rest % 10] if rest % 10 else "")


def number_words(rng):
    n = rng.randint(0, 100) if rng.random() < 0.55 else rng.randint(0, 1000)
    chance = rng.random()
    if chance < 0.3:
        text = pick(rng, f"[Write|Please write|Spell out|Can you write] {n} [in words|as a word|in English words][.|?|]",
                    f"How do you [write|spell|say] {n} in [words|English]?", f"What is {n} in words?")  # fmt: skip
        return question("number words", f"en {n}", typed(rng, text), number_word(n))
    if chance < 0.45:
        word = number_word(n)
        text = pick(rng, f"[Which|What] number is {word}?", f"Write {word} [in digits|as a number|in figures].",
                    f"What is {word} in digits?")  # fmt: skip
        return question("number words", f"en back {n}", typed(rng, text), str(n))
    if chance < 0.65:
        text = pick(rng, f"Schreibe {n} [in Worten|als Wort|auf Deutsch].", f"Wie [schreibt|sagt] man {n} [in Worten|auf Deutsch]?",
                    f"[What is|How do you say|Write] {n} in German[?|]")  # fmt: skip
        return question("number words", f"de {n}", text, german_word(n))
    if chance < 0.75:
        word = german_word(n)
        text = pick(rng, f"Welche Zahl ist {word}?", f"Schreibe {word} [in Ziffern|als Zahl].")
        return question("number words", f"de back {n}", text, str(n))
    if chance < 0.92:
        text = pick(rng, f"[用中文写|请用中文写|用汉字写]{n}[。|]", f"{n}用中文怎么[写|说]？", f"[What is|How do you say|Write] {n} in Chinese[?|]")
        return question("number words", f"zh {n}", text, chinese_word(n))
    text = pick(rng, f"[用数字写|请用数字写]{chinese_word(n)}", f"{chinese_word(n)}是[多少|哪个数字]？")
    return question("number words", f"zh back {n}", text, str(n))
