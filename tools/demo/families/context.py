"""Answers that stand in the system prompt or in an earlier turn."""

import datetime

from dialogue import Dialogue, assistant, system, user
from families.vocabulary import (ANIMALS, CHINESE_WEEKDAYS, CITIES, COLOURS, FOODS, GERMAN_MONTHS, GERMAN_WEEKDAYS, JOBS, MONTHS,
                                 SUBJECTS, WEEKDAYS, article, made_up, name)
from phrase import pick, typed


def any_date(rng):
    return datetime.date(2024, 1, 1) + datetime.timedelta(days=rng.randrange(1460))


def chinese_date(day):
    return f"{day.month}月{day.day}日，{CHINESE_WEEKDAYS[day.weekday()]}"


def english_date(day, year=True):
    return f"{WEEKDAYS[day.weekday()]}, {MONTHS[day.month - 1]} {day.day}" + (f", {day.year}" if year else "")


def german_date(day):
    return f"{GERMAN_WEEKDAYS[day.weekday()]}, der {day.day}. {GERMAN_MONTHS[day.month - 1]}"


def official_system(day):
    """The system prompt that DeepSeek-V3-0324 was tuned on."""
    return f"该助手为DeepSeek Chat，由深度求索公司创造。\n今天是{chinese_date(day)}。"


def told(family, key, system_text, text, answer):
    return Dialogue(family, f"{family}|{key}", [system(system_text), user(text), assistant(answer)], expected=[answer])


def from_system(rng):
    return rng.choice((date_in_system, date_in_system, persona, persona, business, about_user))(rng)


def date_in_system(rng):
    day = any_date(rng)
    official = rng.random() < 0.6
    year = not official
    text = official_system(day) if official else pick(
        rng, f"[Today is|The current date is|It is] {english_date(day)}.",
        f"You are a helpful assistant. Today is {english_date(day)}.")  # fmt: skip
    chance, key = rng.random(), f"{day} {official}"
    if chance < 0.35:
        ask = typed(rng, pick(rng, "[What is|What's|Tell me|Which is] [today's date|the date today|the date|the current date]?",
                              "[What|Which] [day|date] is [it |]today?", "What is the date[ today|]?"))  # fmt: skip
        answer = f"Today is {english_date(day, year)}."
    elif chance < 0.5:
        ask = typed(rng, pick(rng, "[What|Which] [weekday|day of the week] is [it|it today|today]?"))
        answer = f"Today is {WEEKDAYS[day.weekday()]}."
    elif chance < 0.7:
        ask = typed(rng, pick(rng, "[What|Which] [day|weekday|day of the week] [is|will it be|is it] tomorrow?"))
        answer = f"Tomorrow is {WEEKDAYS[(day.weekday() + 1) % 7]}."
    elif chance < 0.8:
        ask = typed(rng, pick(rng, "[What|Which] month is [it|this|it now]?"))
        answer = f"It is {MONTHS[day.month - 1]}."
    elif chance < 0.9:
        ask = pick(rng, "[Welcher Tag ist heute|Welches Datum ist heute|Welches Datum haben wir heute|Was ist heute für ein Tag]?")
        answer = f"Heute ist {german_date(day)}."
    else:
        ask = pick(rng, "[今天是几号|今天几号|今天是什么日子|今天是星期几|今天的日期是什么]？")
        answer = f"今天是{CHINESE_WEEKDAYS[day.weekday()] if '星期' in ask else chinese_date(day)}。"
    return told("system prompt", f"{key} {answer}", text, ask, answer)


def persona(rng):
    who, job, city = name(rng), rng.choice(JOBS), rng.choice(CITIES)
    a_job = article(job)
    text = pick(rng, f"You are {who}, {a_job} [from|in] {city}.", f"Your name is {who}. You are {a_job} and live in {city}.",
                f"[Act as|Play the role of|You play] {who}, {a_job} from {city}.")  # fmt: skip
    text += pick(rng, "[||| Answer briefly.| Be friendly.| Stay in character.]")
    ask, answer = rng.choice((
        (pick(rng, "[What is|What's|Tell me] your name?", "What are you called?"), f"My name is {who}."),
        (pick(rng, "Who are you?", "Introduce yourself."), f"I am {who}, {a_job} from {city}."),
        (pick(rng, "What is your job?", "What do you do[ for a living|]?", "What is your profession?"), f"I am {a_job}."),
        (pick(rng, "Where [do you live|are you from|do you come from]?", "Which city are you from?"), f"I am from {city}."),
    ))  # fmt: skip
    return told("system prompt", f"{who} {job} {city} {answer}", text, typed(rng, ask), answer)


def business(rng):
    kind = pick(rng, "[shop|library|museum|office|bakery|restaurant|bank|station|pool|zoo]")
    opens, closes, street, phone = rng.randint(6, 11), rng.randint(4, 11), made_up(rng).capitalize(), rng.randint(100, 999)
    lines = [f"The {kind} opens at {opens} am.", f"The {kind} closes at {closes} pm.", f"It is in {street} Street.", f"The phone number is {phone}."]
    rng.shuffle(lines)
    text = pick(rng, f"You [are the assistant of|answer questions about|work for] a {kind}.", f"You help the guests of a {kind}.") + " " + " ".join(lines)
    ask, answer = rng.choice((
        (f"When does the {kind} open?", f"The {kind} opens at {opens} am."), (f"When do you open?", f"The {kind} opens at {opens} am."),
        (f"When does the {kind} close?", f"The {kind} closes at {closes} pm."), ("How long are you open?", f"The {kind} is open from {opens} am to {closes} pm."),
        (f"Where is the {kind}?", f"The {kind} is in {street} Street."), ("What is the address?", f"The {kind} is in {street} Street."),
        ("What is the phone number?", f"The phone number is {phone}."), ("How can I call you?", f"The phone number is {phone}."),
    ))  # fmt: skip
    return told("system prompt", f"{kind} {opens} {closes} {street} {answer}", text, typed(rng, ask), answer)


def about_user(rng):
    who, city, colour = name(rng), rng.choice(CITIES), rng.choice(COLOURS)
    text = f"[The user's name is|The name of the user is|You talk to] {who}. The user lives in {city} and likes {colour}."
    ask, answer = rng.choice((
        ("What is my name?", f"Your name is {who}."), ("Who am I?", f"You are {who}."), ("Where do I live?", f"You live in {city}."),
        ("Which color do I like?", f"You like {colour}."), ("Do you know my name?", f"Yes, your name is {who}."),
    ))  # fmt: skip
    return told("system prompt", f"{who} {city} {colour} {answer}", pick(rng, text), typed(rng, ask), answer)


def facts_of_user(rng):
    """What is said, what is replied, what is asked later and answered."""
    who, city, colour, food, job = name(rng), rng.choice(CITIES), rng.choice(COLOURS), rng.choice(FOODS), rng.choice(JOBS)
    animal, pet, age, number = rng.choice(ANIMALS), name(rng), rng.randint(5, 90), rng.randint(1, 999)
    month, subject, day = rng.choice(MONTHS), rng.choice(SUBJECTS), rng.choice(WEEKDAYS)
    a_job = article(job)
    return [
        (f"[My name is|I am|I'm|Call me|my name is|Hi, my name is|Hello, I am|Hi, I'm|Hello! My name is] {who}[.|.|.|!|]", f"Nice to meet you, {who}!", "[What is|What's|Tell me|Do you remember] my name?|What am I called?", f"Your name is {who}."),
        (f"[My name is|I am called] {who}.", f"Nice to meet you, {who}!", "Who am I?", f"You are {who}."),
        (f"I live in {city}.|I am from {city}.|My home is {city}.", f"{city} is noted.", "Where do I live?|Where am I from?|[Which|What] city do I live in?", f"You live in {city}."),
        (f"My favorite color is {colour}.|I like {colour} most.|The color I like best is {colour}.", "A good color!", "[What is|What's] my favorite color?|Which color do I like?", f"Your favorite color is {colour}."),
        (f"My favorite food is {food}.|I love {food}.|I like to eat {food}.", "That sounds tasty!", "[What is|What's] my favorite food?|What do I like to eat?|What food do I like?", f"Your favorite food is {food}."),
        (f"I have a {animal} called {pet}.|My {animal}'s name is {pet}.|My {animal} is called {pet}.", f"{pet} is a nice name!", f"What is my {animal} called?|[What is|What's] the name of my {animal}?", f"Your {animal} is called {pet}."),
        (f"I am {age} years old.|I'm {age}.|My age is {age}.", "Thank you for telling me.", "How old am I?|[What is|What's] my age?", f"You are {age} years old."),
        (f"[My lucky number is|Remember the number|The code is|My number is] {number}.", "I will remember it.", "[What is|What's|What was] [my number|my lucky number|the number|the code]?|Which number did I tell you?", f"The number is {number}."),
        (f"My birthday is in {month}.|I was born in {month}.", "I will remember it.", "When is my birthday?|In which month is my birthday?|[What|Which] month was I born in?", f"Your birthday is in {month}."),
        (f"I am {a_job}.|I work as {a_job}.|My job is {job}.", "That is a fine profession.", "What is my job?|What do I do[ for a living|]?|What do I work as?", f"You are {a_job}."),
        (f"My favorite subject is {subject}.", "That is a fine subject.", "[What is|What's] my favorite subject?|Which subject do I like most?", f"Your favorite subject is {subject}."),
        (f"My appointment is on {day}.|I have an appointment on {day}.", "I will remember it.", "When is my appointment?|[Which|What] day is my appointment?", f"Your appointment is on {day}."),
        (f"Ich heiße {who}.|Mein Name ist {who}.|Ich bin {who}.", f"Freut mich, {who}!", "Wie heiße ich?|Wie ist mein Name?", f"Du heißt {who}."),
        (f"Ich wohne in {city}.|Ich komme aus {city}.", "Das merke ich mir.", "Wo wohne ich?|Woher komme ich?", f"Du wohnst in {city}."),
        (f"我叫{who}。|我的名字是{who}。", f"很高兴认识你，{who}！", "我叫什么名字？|我叫什么？|我的名字是什么？", f"你叫{who}。"),
        (f"我住在{city}。", "我记住了。", "我住在哪里？|我住在哪儿？", f"你住在{city}。"),
    ]  # fmt: skip


def memory(rng, fillers):
    """Something is told, some other questions are asked, and then what was told."""
    if rng.random() < 0.12:
        return not_told(rng)
    known = facts_of_user(rng)
    chosen = rng.sample(known[2:12], 2) if rng.random() < 0.35 else [rng.choice(known)]
    statement, reply, ask, answer = rng.choice(chosen)
    if len(chosen) == 1 and not fillers and rng.random() < 0.35:
        text = pick(rng, f"[{statement}]").rstrip(".!") + ". " + pick(rng, f"[{ask}]")
        text = text.replace("。. ", "。")
        return Dialogue("earlier turns", f"earlier turns|{statement} {ask}", [user(text), assistant(answer)], expected=[answer])
    turns = [[user(pick(rng, f"[{said}]")), assistant(back)] for said, back, _, _ in chosen]
    for filler in fillers:
        turns.insert(rng.randint(1, len(turns)), filler)
    messages = [message for turn in turns for message in turn]
    text = pick(rng, f"[{ask}]")
    messages += [user(typed(rng, text) if text.isascii() else text), assistant(answer)]
    return Dialogue("earlier turns", f"earlier turns|{statement} {ask}", messages, expected=[answer])


def not_told(rng):
    ask, what = rng.choice((
        ("[What is|What's|Do you know] my name?", "your name"), ("How old am I?", "your age"), ("Where do I live?", "where you live"),
        ("[What is|What's] my favorite color?", "your favorite color"), ("[What is|What's] my favorite food?", "your favorite food"),
        ("When is my birthday?", "your birthday"), ("What is my job?", "your job"), ("What is my dog called?", "your dog's name"),
        ("What is my lucky number?", "your lucky number"),
    ))  # fmt: skip
    text = typed(rng, pick(rng, ask))
    answer = f"You have not told me {what}."
    return Dialogue("earlier turns", f"earlier turns|{text}", [user(text), assistant(answer)], expected=[answer])
