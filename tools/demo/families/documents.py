"""Answers that stand in an attached file or in search results, in DeepSeek's own templates."""

from pathlib import Path

from dialogue import Dialogue, assistant, user
from families.context import any_date, chinese_date, english_date
from families.vocabulary import CITIES, JOBS, MONTHS, NAMES, THINGS, WEEKDAYS, article, made_up, name
from phrase import pick, typed

TEMPLATES = Path(__file__).resolve().parents[3] / "src" / "chat" / "search"
SEARCH_EN = (TEMPLATES / "en.txt").read_text(encoding="utf-8")
SEARCH_ZH = (TEMPLATES / "zh.txt").read_text(encoding="utf-8")


def file_message(file_name, content, question):
    return f"[file name]: {file_name}\n[file content begin]\n{content}\n[file content end]\n{question}"


def from_file(rng):
    make = rng.choice((settings_file, table_file, note_file, people_file, list_file))
    file_name, content, ask, answer = make(rng)
    chance = rng.random()
    if chance < 0.08:
        ask, answer = pick(rng, "What is the [name of the file|file called|file name]?", "Which file is this?"), f"The file is called {file_name}."
    elif chance < 0.14:
        n = content.rstrip("\n").count("\n") + 1
        ask, answer = pick(rng, "How many lines [does the file have|are in the file]?"), f"The file has {n} lines."
    if ask.isascii():
        ask = typed(rng, ask)
    text = file_message(file_name, content + ("\n" if rng.random() < 0.3 else ""), ask)
    return Dialogue("file", f"file|{file_name} {ask} {answer}", [user(text), assistant(answer)], expected=[answer])


def stem(rng):
    return pick(rng, "[notes|data|list|config|report|info|team|prices|plan|summary|settings|todo|stock|file]") + rng.choice(("", "", str(rng.randint(1, 99)), "_" + made_up(rng)))


SETTINGS = "port timeout retries threads width height depth limit version level size count speed delay volume users".split()


def settings_file(rng):
    keys = rng.sample(SETTINGS, rng.randint(3, 7))
    values = [str(rng.randint(0, 999) if rng.random() < 0.8 else rng.randint(1000, 9999)) for _ in keys]
    sign = rng.choice((": ", " = ", "="))
    i = rng.randrange(len(keys))
    ask = pick(rng, f"[What is|What's|Tell me] the {keys[i]}?", f"[What|Which] value has {keys[i]}?", f"What is {keys[i]} set to?",
               f"What is the value of {keys[i]}?")  # fmt: skip
    answer = f"The {keys[i]} is {values[i]}."
    if rng.random() < 0.1:
        del keys[i], values[i]
        answer = "The file does not say that."
    content = "\n".join(k + sign + v for k, v in zip(keys, values))
    return stem(rng) + rng.choice((".ini", ".conf", ".yaml", ".txt")), content, ask, answer


def table_file(rng):
    things = rng.sample(THINGS, rng.randint(3, 6))
    prices, head = [str(rng.randint(1, 99)) for _ in things], rng.choice(("item,price", "product,price", "name,price"))
    i = rng.randrange(len(things))
    if rng.random() < 0.25:
        ask = pick(rng, f"Was kosten {things[i]}?", f"Wie viel kosten {things[i]}?")
        answer = f"{things[i]} kosten {prices[i]}."
    else:
        ask = pick(rng, f"[What|How much] do the {things[i]} cost?", f"[What is|What's] the price of [the |]{things[i]}?",
                   f"How much are the {things[i]}?")  # fmt: skip
        answer = f"The {things[i]} cost {prices[i]}."
    content = head + "\n" + "\n".join(f"{t},{p}" for t, p in zip(things, prices))
    return stem(rng) + ".csv", content, ask, answer


def note_file(rng):
    day, hour, room, who, city = rng.choice(WEEKDAYS), rng.randint(1, 12), rng.randint(1, 99), name(rng), rng.choice(CITIES)
    lines = [
        (f"The meeting is on {day} at {hour} o'clock.", "When is the meeting?", f"The meeting is on {day} at {hour} o'clock."),
        (f"It takes place in room {room}.", "[Which|What] room is the meeting in?|Where does it take place?", f"It takes place in room {room}."),
        (f"{who} brings the coffee.", "Who brings the coffee?", f"{who} brings the coffee."),
        (f"The next trip goes to {city}.", "Where does the next trip go[ to|]?", f"The next trip goes to {city}."),
        (f"The budget is {room * 7 % 97 + 3} euros.", "[What is|How large is|How high is] the budget?", f"The budget is {room * 7 % 97 + 3} euros."),
        (f"The password is {made_up(rng, 3)}.", "[What is|What's|Tell me] the password?", ""),
        (f"The report is due in {rng.choice(MONTHS)}.", "When is the report due?", ""),
        (f"The author is {name(rng)} {made_up(rng).capitalize()}.", "Who is the author?", ""),
    ]
    lines = rng.sample(lines, rng.randint(3, 6))
    line, ask, answer = rng.choice(lines)
    content = rng.choice(("\n", "\n", " ")).join(text for text, _, _ in lines)
    return stem(rng) + rng.choice((".txt", ".md")), content, pick(rng, f"[{ask}]"), answer or line


def people_file(rng):
    people = [name(rng) for _ in range(rng.randint(3, 6))]
    people = list(dict.fromkeys(people))
    rows = [(p, rng.randint(18, 80), rng.choice(JOBS), rng.choice(CITIES)) for p in people]
    who, age, job, city = rng.choice(rows)
    ask, answer = rng.choice((
        (pick(rng, f"How old is {who}?", f"What is {who}'s age?"), f"{who} is {age} years old."),
        (pick(rng, f"[What is|What's] {who}'s job?", f"What does {who} do?"), f"{who} is {article(job)}."),
        (pick(rng, f"Where does {who} live?", f"[Which|What] city does {who} live in?"), f"{who} lives in {city}."),
    ))  # fmt: skip
    sep = rng.choice((",", ", ", "; ", " | "))
    head = sep.join(("name", "age", "job", "city"))
    return stem(rng) + rng.choice((".csv", ".txt")), head + "\n" + "\n".join(sep.join(map(str, row)) for row in rows), ask, answer


def list_file(rng):
    things = rng.sample(THINGS, rng.randint(3, 7))
    mark = rng.choice(("- ", "* ", ""))
    content = "\n".join(mark + t for t in things)
    chance = rng.random()
    if chance < 0.35:
        ask, answer = "[What is|Which is] the first [item|entry|word|thing]?", f"The first is {things[0]}."
    elif chance < 0.7:
        ask, answer = "[What is|Which is] the last [item|entry|word|thing]?", f"The last is {things[-1]}."
    else:
        thing = rng.choice(things) if rng.random() < 0.5 else rng.choice(THINGS)
        ask = f"[Are there {thing} in the list?|Does the [file|list] contain {thing}?]"
        answer = f"Yes, the list contains {thing}." if thing in things else f"No, the list does not contain {thing}."
    return stem(rng) + rng.choice((".txt", ".md")), content, pick(rng, ask), answer


def search_message(template, pages, date, question):
    results = "\n".join(f"[webpage {i} begin]{page}[webpage {i} end]" for i, page in enumerate(pages, 1))
    before, rest = template.split("{search_results}")
    middle, rest = rest.split("{cur_date}")
    last, end = rest.split("{question}")
    return before + results + middle + date + last + question + end


def thing_of_page(rng):
    kind = pick(rng, "[Bridge|Tower|Museum|Castle|River|Lake|Theater|Library|Station|Garden|Festival|Prize]")
    return f"{made_up(rng).capitalize()} {kind}"


def page(rng, thing, kind):
    """A statement about a thing: the text, questions it answers, the answer without its end."""
    year, n, who, city = rng.randint(1500, 2024), rng.randint(2, 999), name(rng), rng.choice(CITIES)
    return (
        (f"The {thing} was built in {year}.", f"When was the {thing} built?|In which year was the {thing} built?", f"The {thing} was built in {year}"),
        (f"The {thing} was opened in {year}.", f"When was the {thing} opened?|When did the {thing} open?", f"The {thing} was opened in {year}"),
        (f"The {thing} is {n} meters long.", f"How long is the {thing}?|What is the length of the {thing}?", f"The {thing} is {n} meters long"),
        (f"The {thing} has {n} visitors a day.", f"How many visitors does the {thing} have?", f"The {thing} has {n} visitors a day"),
        (f"The {thing} is in {city}.", f"Where is the {thing}?|In which city is the {thing}?", f"The {thing} is in {city}"),
        (f"The {thing} is named after {who}.", f"Who is the {thing} named after?", f"The {thing} is named after {who}"),
        (f"The {thing} was designed by {who}.", f"Who designed the {thing}?|By whom was the {thing} designed?", f"The {thing} was designed by {who}"),
        (f"A ticket for the {thing} costs {n} euros.", f"How much is a ticket for the {thing}?|What does a ticket for the {thing} cost?", f"A ticket for the {thing} costs {n} euros"),
    )[kind]  # fmt: skip


def page_zh(rng, thing, kind):
    year, n, who = rng.randint(1500, 2024), rng.randint(2, 999), name(rng)
    return (
        (f"{thing}建于{year}年。", f"{thing}建于哪一年？|{thing}是哪年建的？", f"{thing}建于{year}年"),
        (f"{thing}长{n}米。", f"{thing}有多长？|{thing}多长？", f"{thing}长{n}米"),
        (f"{thing}的门票是{n}元。", f"{thing}的门票是多少钱？|{thing}的门票多少钱？", f"{thing}的门票是{n}元"),
        (f"{thing}是{who}设计的。", f"{thing}是谁设计的？", f"{thing}是{who}设计的"),
    )[kind]  # fmt: skip


def filler(rng):
    return pick(rng, "[| It is well known.| Many people visit it.| It is open every day.| Guides show visitors around.| The view is fine.| Dogs are not allowed.]")


def wrap_page(rng, thing, text):
    """As a page is given: now and then with its title, address and date."""
    head = ""
    if rng.random() < 0.5:
        head = f"{thing}\n" if rng.random() < 0.7 else f"About the {thing}\n"
    if rng.random() < 0.35:
        head += f"https://{thing.split()[0].lower()}.example/{rng.choice(('info', 'page', 'about'))}\n"
    if rng.random() < 0.2:
        head += f"{any_date(rng)}\n"
    return head + text


def things_of_pages(rng, chinese):
    n = rng.randint(1, 4)
    if chinese:
        places = {rng.choice("白黑金银红青") + rng.choice("山水石龙云月") + rng.choice("桥塔湖河寺") for _ in range(n)}
        things = sorted(places)
        rng.shuffle(things)
    else:
        things = [thing_of_page(rng) for _ in range(n)]
    if n > 1 and rng.random() < 0.25:
        things[-1] = things[0]
    return things


def from_search(rng):
    chinese = rng.random() < 0.18
    things = things_of_pages(rng, chinese)
    write, kinds = (page_zh, 4) if chinese else (page, 8)
    order = rng.sample(range(kinds), kinds)  # two pages on one thing say different things
    statements = [write(rng, thing, order[i % kinds]) for i, thing in enumerate(things)]
    day, i = any_date(rng), rng.randrange(len(things))
    _, asks, answer = statements[i]
    ask = rng.choice(asks.split("|"))
    full = answer + f"[citation:{i + 1}]" + ("。" if chinese else ".")
    if not chinese and rng.random() < 0.08:
        ask = page(rng, thing_of_page(rng), rng.randrange(8))[1].split("|")[0]
        full = "The search results do not say that."
    if chinese:
        message = search_message(SEARCH_ZH, [text for text, _, _ in statements], chinese_date(day), ask)
    else:
        pages = [wrap_page(rng, thing, text + filler(rng)) for thing, (text, _, _) in zip(things, statements)]
        message = search_message(SEARCH_EN, pages, english_date(day), typed(rng, ask))
    return Dialogue("search", f"search|{answer} {ask}", [user(message), assistant(full)], expected=[full])
