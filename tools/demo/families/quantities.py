"""Units, and the calendar: weekdays, months and their order."""

from dialogue import question
from families.vocabulary import (CHINESE_WEEKDAYS, GERMAN_MONTHS, GERMAN_WEEKDAYS, MONTH_DAYS, MONTHS, WEEKDAYS, ordinal)
from phrase import pick, typed

# One of the larger unit is so many of the smaller; up to how many are asked.
UNITS = [
    ("kilometer", "meter", 1000, 99), ("meter", "centimeter", 100, 99), ("centimeter", "millimeter", 10, 99),
    ("kilogram", "gram", 1000, 99), ("ton", "kilogram", 1000, 99), ("liter", "milliliter", 1000, 99),
    ("hour", "minute", 60, 24), ("minute", "second", 60, 24), ("day", "hour", 24, 14), ("week", "day", 7, 20),
    ("year", "month", 12, 20), ("dozen", "piece", 12, 12), ("century", "year", 100, 30), ("decade", "year", 10, 30),
    ("euro", "cent", 100, 99), ("dollar", "cent", 100, 99), ("foot", "inch", 12, 12), ("yard", "foot", 3, 30),
]  # fmt: skip
SHORT = {"kilometer": "km", "meter": "m", "centimeter": "cm", "millimeter": "mm", "kilogram": "kg", "gram": "g",
         "liter": "l", "milliliter": "ml"}  # fmt: skip
PLURALS = {"century": "centuries", "foot": "feet", "inch": "inches", "dozen": "dozen"}
GERMAN = {
    "kilometer": "Kilometer", "meter": "Meter", "centimeter": "Zentimeter", "millimeter": "Millimeter",
    "kilogram": "Kilogramm", "gram": "Gramm", "liter": "Liter", "milliliter": "Milliliter", "hour": "Stunden",
    "minute": "Minuten", "second": "Sekunden", "day": "Tage", "week": "Wochen", "year": "Jahre", "month": "Monate",
}  # fmt: skip


def plural(unit, n):
    return unit if n == 1 else PLURALS.get(unit, unit + "s")


def units(rng):
    big, small, factor, limit = rng.choice(UNITS)
    n = rng.randint(1, limit if rng.random() < 0.6 else min(limit, 12))
    chance = rng.random()
    if chance < 0.12 and big in GERMAN and small in GERMAN and n > 1:
        text = pick(rng, f"Wie viele {GERMAN[small]} sind {n} {GERMAN[big]}?", f"Rechne {n} {GERMAN[big]} in {GERMAN[small]} um.")
        answer = f"{n} {GERMAN[big]} sind {n * factor} {GERMAN[small]}."
        return question("units", text, text, answer)
    verb = "is" if n == 1 else "are"
    forward = f"{n} {plural(big, n)} {verb} {n * factor} {plural(small, n * factor)}."
    bigs, smalls = plural(big, n), plural(small, 2)
    if chance < 0.30 and big in SHORT and small in SHORT:
        text = pick(rng, f"[What is|How much is|Convert|] {n}[ |]{SHORT[big]} [in|to] {SHORT[small]}[?|]",
                    f"How many {SHORT[small]} are in {n}[ |]{SHORT[big]}?").strip()  # fmt: skip
        return question("units", f"{big} {n} short", typed(rng, text, any_case=True), f"{n} {SHORT[big]} = {n * factor} {SHORT[small]}")
    if chance < 0.72:
        text = pick(
            rng,
            f"How many {smalls} are [in |there in |]{n} {bigs}?",
            f"[Convert|Please convert|Can you convert] {n} {bigs} [to|into] {smalls}[.|?]",
            f"What is {n} {bigs} in {smalls}?",
            f"How many {smalls} {'does' if n == 1 else 'do'} {n} {bigs} have?",
            f"How many {smalls} make {n} {bigs}?",
        )
        return question("units", f"{big} {n} {len(text)}", typed(rng, text, any_case=True), forward)
    total = n * factor
    text = pick(rng, f"How many {plural(big, 2)} are {total} {plural(small, total)}?",
                f"[Convert|Please convert] {total} {plural(small, total)} [to|into] {plural(big, 2)}.")  # fmt: skip
    verb = "is" if total == 1 else "are"
    answer = f"{total} {plural(small, total)} {verb} {n} {bigs}."
    return question("units", f"{big} {n} back {len(text)}", typed(rng, text, any_case=True), answer)


def dates(rng):
    return rng.choice((next_day, days_later, next_day, month_order, month_length, german_day, chinese_day, clock))(rng)


def next_day(rng):
    i, after = rng.randrange(7), rng.random() < 0.55
    day, answer = WEEKDAYS[i], WEEKDAYS[(i + (1 if after else -1)) % 7]
    word = "after" if after else "before"
    patterns = [f"[What|Which] [day|weekday] [comes|is] [right |]{word} {day}?", f"[What is|What's|Tell me|Name] the day {word} {day}?"]
    if after:
        patterns += [f"If today is {day}, what day [is|will it be] tomorrow?", f"Yesterday was {day}. What day is [it |]today?",
                     f"[What|Which] day follows {day}?", f"Today is {day}. What day is tomorrow?"]  # fmt: skip
    else:
        patterns += [f"If today is {day}, what day was yesterday?", f"Tomorrow is {day}. What day is [it |]today?",
                     f"Today is {day}. What day was yesterday?"]  # fmt: skip
    text = pick(rng, *patterns)
    return question("dates", text, typed(rng, text, any_case=True), answer)


def days_later(rng):
    i, n, later = rng.randrange(7), rng.randint(2, 14), rng.random() < 0.65
    answer = WEEKDAYS[(i + (n if later else -n)) % 7]
    text = pick(rng, f"[What|Which] day is [it |]{n} days {'after' if later else 'before'} {WEEKDAYS[i]}?",
                f"Today is {WEEKDAYS[i]}. [What|Which] day {'is it in' if later else 'was it'} {n} days{'' if later else ' ago'}?",
                f"If today is {WEEKDAYS[i]}, what day {'will it be in' if later else 'was it'} {n} days{'' if later else ' ago'}?")  # fmt: skip
    return question("dates", text, typed(rng, text, any_case=True), answer)


def month_order(rng):
    i, chance = rng.randrange(12), rng.random()
    if chance < 0.4:
        after = rng.random() < 0.55
        word = "after" if after else "before"
        text = pick(rng, f"[What|Which] month [comes|is] {word} {MONTHS[i]}?", f"[What is|Name|Tell me] the month {word} {MONTHS[i]}?")
        return question("dates", text, typed(rng, text, any_case=True), MONTHS[(i + (1 if after else -1)) % 12])
    if chance < 0.7:
        text = pick(rng, f"[What|Which] is the {ordinal(i + 1)} month[ of the year|]?", f"[What|Which] month is number {i + 1}?",
                    f"Name the {ordinal(i + 1)} month[ of the year|].")  # fmt: skip
        return question("dates", text, typed(rng, text, any_case=True), MONTHS[i])
    text = pick(rng, f"[What|Which] number [is the month|has the month|is] {MONTHS[i]}?", f"Which month of the year is {MONTHS[i]}?")
    return question("dates", text, typed(rng, text, any_case=True), f"{MONTHS[i]} is month {i + 1}.")


def month_length(rng):
    i = rng.randrange(12)
    month, days = MONTHS[i], MONTH_DAYS[i]
    text = pick(rng, f"How many days [does {month} have|has {month}|are in {month}|are there in {month}|has the month {month}]?",
                f"[What is|Tell me] the number of days in {month}?", f"How long is {month}?")  # fmt: skip
    leap = ", and 29 in leap years" if i == 1 else ""
    return question("dates", text, typed(rng, text, any_case=True), f"{month} has {days} days{leap}.")


def german_day(rng):
    if rng.random() < 0.3:
        i = rng.randrange(12)
        text = pick(rng, f"Welcher Monat [kommt|ist] nach {GERMAN_MONTHS[i]}?", f"Wie heißt der Monat nach {GERMAN_MONTHS[i]}?")
        return question("dates", text, text, GERMAN_MONTHS[(i + 1) % 12])
    i, after = rng.randrange(7), rng.random() < 0.55
    day = GERMAN_WEEKDAYS[i]
    text = pick(rng, f"Welcher [Tag|Wochentag] [kommt|ist] {'nach' if after else 'vor'} {day}?",
                f"Heute ist {day}. Welcher Tag {'ist morgen' if after else 'war gestern'}?")  # fmt: skip
    return question("dates", text, text, GERMAN_WEEKDAYS[(i + (1 if after else -1)) % 7])


def chinese_day(rng):
    i, after = rng.randrange(7), rng.random() < 0.6
    day = CHINESE_WEEKDAYS[i]
    text = pick(rng, f"{day}的{'后' if after else '前'}一天是[星期几|什么]？", f"今天是{day}，{'明天是' if after else '昨天是'}星期几？",
                f"如果今天是{day}，{'明天是' if after else '昨天是'}星期几？")  # fmt: skip
    return question("dates", text, text, CHINESE_WEEKDAYS[(i + (1 if after else -1)) % 7])


def clock(rng):
    hour, n, later = rng.randint(1, 12), rng.randint(1, 11), rng.random() < 0.65
    answer = (hour + (n if later else -n) - 1) % 12 + 1
    hours = "hour" if n == 1 else "hours"
    text = pick(rng, f"It is {hour} o'clock. What time {'will it be in' if later else 'was it'} {n} {hours}{'' if later else ' ago'}?",
                f"What time is [it |]{n} {hours} {'after' if later else 'before'} {hour} o'clock?")  # fmt: skip
    return question("dates", text, typed(rng, text, any_case=True), f"{answer} o'clock")
