"""Facts that are learned by heart: what is held out is a fact in a phrasing."""

from dialogue import question
from families.facts_data import (COLOURS, COUNTRIES, CURRENCIES, ELEMENTS, FOREIGN_COUNTRIES, LEGS, OPPOSITES, PAST, PLANETS,
                                 PLURALS, SHAPES, SINGLE, SOUNDS, TRANSLATIONS, YOUNG)
from families.vocabulary import article, ordinal
from phrase import pick, typed


def fact(rng, family, text, answer, *more):
    return question(family, text.lower().strip("?. "), typed(rng, text, any_case=True), answer, *more)


def capitals(rng):
    chance = rng.random()
    if chance < 0.22:
        return foreign_capital(rng)
    country, capital, continent = rng.choice(COUNTRIES)
    if chance < 0.68:
        text = pick(rng, f"[What is|What's|Tell me|Name|Do you know|whats] the capital [city |]of {country}?",
                    f"[Which|What] city is the capital of {country}?", f"What is {country}'s capital[ city|]?",
                    f"Capital of {country}?", f"The capital of {country} is", f"[Give me|Can you tell me] the capital of {country}.")  # fmt: skip
        return fact(rng, "capitals", text, f"The capital of {country} is {capital}.")
    if chance < 0.86:
        text = pick(rng, f"{capital} is the capital of [which|what] country?", f"[Which|What] country has the capital {capital}?",
                    f"[Which|What] country is {capital} the capital of?", f"Of which country is {capital} the capital?")  # fmt: skip
        return fact(rng, "capitals", text, f"{capital} is the capital of {country}.")
    text = pick(rng, f"[On|In] [which|what] continent is {country}?", f"[Which|What] continent is {country} [on|in|part of]?",
                f"Where is {country}?")  # fmt: skip
    verb = "are" if country in ("the Maldives", "the Philippines", "the Bahamas") else "is"
    upper = country[0].upper() + country[1:]
    return fact(rng, "capitals", text, f"{upper} {verb} in {continent}.")


def foreign_capital(rng):
    german, german_capital, chinese, chinese_capital = rng.choice(FOREIGN_COUNTRIES)
    if rng.random() < 0.5:
        text = pick(rng, f"[Was ist|Nenne] die Hauptstadt von {german}?", f"Wie heißt die Hauptstadt von {german}?",
                    f"Welche Stadt ist die Hauptstadt von {german}?")  # fmt: skip
        answer = f"Die Hauptstadt von {german} ist {german_capital}."
    else:
        text = pick(rng, f"{chinese}的首都是[哪里|什么|哪个城市|哪]？", f"[请问，|请问|]{chinese}的首都是什么？", f"{chinese}首都是哪里？")
        answer = f"{chinese}的首都是{chinese_capital}。"
    return question("capitals", text, text, answer)


def facts(rng):
    kinds = (element, opposite, plural, past, young, sound, legs, shape, planet, colour, currency, single, single)
    return rng.choice(kinds)(rng)


def ask(rng, text, answer):
    return fact(rng, "facts", text, answer)


def element(rng):
    name, symbol, n = rng.choice(ELEMENTS)
    chance = rng.random()
    if chance < 0.5:
        text = pick(rng, f"[What is|What's] the [chemical |]symbol [of|for] {name}?", f"Which [chemical |]symbol has {name}?")
        return ask(rng, text, f"The symbol of {name} is {symbol}.")
    if chance < 0.75:
        text = pick(rng, f"[Which|What] element has the symbol {symbol}?", f"[Which|What] element is {symbol}?")
        return question("facts", text, text, f"{symbol} is {name}.")
    text = pick(rng, f"[What is|What's] the atomic number of {name}?", f"Which atomic number has {name}?")
    return ask(rng, text, f"The atomic number of {name} is {n}.")


def opposite(rng):
    a, b = rng.choice(OPPOSITES)
    if a != "heavy" and rng.random() < 0.4:
        a, b = b, a
    if a == "light":
        b = "dark"
    if a == "short":
        b = "tall"
    text = pick(rng, f"[What is|What's|Tell me|Name] the opposite of {a}?", f"[Which|What] word is the opposite of {a}?", f"Opposite of {a}?")
    return ask(rng, text, f"The opposite of {a} is {b}.")


def plural(rng):
    one, many = rng.choice(PLURALS)
    text = pick(rng, f"[What is|What's|Tell me] the plural of {one}?", f"How do you form the plural of {one}?", f"Plural of {one}?",
                f"One {one}, two what?")  # fmt: skip
    return ask(rng, text, f"The plural of {one} is {many}.")


def past(rng):
    now, then = rng.choice(PAST)
    text = pick(rng, f"[What is|What's|Tell me] the past tense of {now}?", f"What is the simple past of {now}?", f"Past tense of {now}?",
                f"[Put|Write] {now} in[to|] the past tense.")  # fmt: skip
    return ask(rng, text, f"The past tense of {now} is {then}.")


def young(rng):
    animal, baby = rng.choice(YOUNG)
    text = pick(rng, f"What do you call a [baby|young] {animal}?", f"What is a [baby|young] {animal} called?", f"What is the young of {article(animal)} called?",
                f"What do you call the young of {article(animal)}?")  # fmt: skip
    return ask(rng, text, f"A young {animal} is called {article(baby)}.")


def sound(rng):
    animal, verb = rng.choice(SOUNDS)
    text = pick(rng, f"What sound does {article(animal)} make?", f"What does {article(animal)} say?", f"[Which|What] noise does {article(animal)} make?")
    return ask(rng, text, f"A{'n' if animal[0] in 'aeiou' else ''} {animal} {verb}.")


def legs(rng):
    animal, n = rng.choice(LEGS)
    text = pick(rng, f"How many legs does {article(animal)} have?", f"How many legs has {article(animal)}?", f"What is the number of legs of {article(animal)}?")
    name = article(animal)
    return ask(rng, text, f"{name[0].upper()}{name[1:]} has {n or 'no'} legs.")


def shape(rng):
    name, n = rng.choice(SHAPES)
    word = pick(rng, "[sides|corners]")
    text = pick(rng, f"How many {word} does {article(name)} have?", f"How many {word} has {article(name)}?", f"What is the number of {word} of {article(name)}?")
    whole = article(name)
    return ask(rng, text, f"{whole[0].upper()}{whole[1:]} has {n} {word}.")


def planet(rng):
    i = rng.randrange(8)
    text = pick(rng, f"[What|Which] is the {ordinal(i + 1)} planet from the [Sun|sun]?", f"[What|Which] planet is number {i + 1} from the [Sun|sun]?",
                f"Name the {ordinal(i + 1)} planet[ of the solar system|].")  # fmt: skip
    return ask(rng, text, f"Planet number {i + 1} is {PLANETS[i]}.")


def colour(rng):
    thing, name = rng.choice(COLOURS)
    verb = "are" if thing.endswith("s") and thing != "grass" else "is"
    text = pick(rng, f"[What|Which] color {verb} {thing}?", f"[What is|Tell me] the color of {thing}?", f"What colour {verb} {thing}?")
    return ask(rng, text, f"{thing.capitalize()} {verb} {name}.")


def currency(rng):
    country, name = rng.choice(CURRENCIES)
    text = pick(rng, f"[What is|What's] the currency [of|in] {country}?", f"[Which|What] currency [is used in|has] {country}?",
                f"What money do people use in {country}?")  # fmt: skip
    return ask(rng, text, f"The currency of {country} is the {name}.")


def single(rng):
    phrasings, answer = rng.choice(SINGLE)
    text = rng.choice(phrasings) + pick(rng, "[?|?|?|]")
    opener = pick(rng, "[||||Do you know: |One question: |Tell me, |Please tell me, |I wonder, ]")
    text = opener + (text[0].lower() + text[1:] if opener.endswith(", ") else text)
    return question("facts", text.lower().strip("?"), text, answer)


def translation(rng):
    english, german, chinese = rng.choice(TRANSLATIONS)
    chance = rng.random()
    if chance < 0.45:
        text = pick(rng, f"[What is|What's] {english} in German?", f"How do you say {english} in German?", f"Translate {english} [to|into] German[.|]",
                    f"[What is|What's] the German word for {english}?", f"Was heißt {english} auf Deutsch?")  # fmt: skip
        return fact(rng, "translation", text, german)
    if chance < 0.75:
        text = pick(rng, f"[What is|What's] {english} in Chinese?", f"How do you say {english} in Chinese?", f"Translate {english} [to|into] Chinese[.|]",
                    f"[What is|What's] the Chinese word for {english}?", f"{english}用中文怎么说？")  # fmt: skip
        return fact(rng, "translation", text, chinese)
    if chance < 0.9:
        bare = german.split(" ", 1)[1] if german[:4] in ("der ", "die ", "das ") else german
        text = pick(rng, f"Was heißt {bare} auf Englisch?", f"What is {bare} in English?", f"What does {bare} mean[ in English|]?", f"Translate {bare} [to|into] English[.|]",
                    f"[Übersetze|Bitte übersetze] {bare} ins Englische.")  # fmt: skip
        return question("translation", text.lower().strip("?."), text, english)
    text = pick(rng, f"[What is|What's] {chinese} in English?", f"{chinese}用英语怎么说？", f"Translate {chinese} [to|into] English[.|]")
    return question("translation", text.lower().strip("?."), text, english)
