"""JSON on request, and the missing middle of one-line functions."""

import json

from dialogue import Dialogue, assistant, user
from families.vocabulary import CITIES, COLOURS, JOBS, THINGS, article, made_up, name
from phrase import pick, typed


def as_json(rng):
    chance = rng.random()
    if chance < 0.2:
        return json_list(rng)
    fields = {"name": name(rng), "age": rng.randint(1, 99), "city": rng.choice(CITIES), "color": rng.choice(COLOURS), "job": rng.choice(JOBS),
              "id": rng.randint(1, 999), "item": rng.choice(THINGS), "count": rng.randint(0, 99), "active": rng.random() < 0.5}  # fmt: skip
    keys = ["name", *rng.sample(["age", "city", "color", "job", "id", "active"], rng.randint(1, 3))]
    if rng.random() < 0.3:
        keys = rng.sample(["id", "item", "count", "color", "active", "city"], rng.randint(2, 4))
    value = {key: fields[key] for key in keys}
    shown = [(key, str(v).lower() if isinstance(v, bool) else str(v)) for key, v in value.items()]
    if chance < 0.65:
        listed = " and ".join(f"{key} {v}" for key, v in shown) if len(keys) == 2 else ", ".join(f"{key} {v}" for key, v in shown[:-1]) + f" and {shown[-1][0]} {shown[-1][1]}"
        text = pick(rng, f"[Give|Write|Make|Create|Return] [me |]a JSON object with {listed}.", f"[Write|Return|Make] JSON with {listed}.",
                    f"Can you [write|make|give me] a JSON object with {listed}?", f"JSON: {listed}")  # fmt: skip
    elif chance < 0.85:
        sep = rng.choice((", ", "; ", "\n"))
        listed = sep.join(f"{key}: {v}" for key, v in shown)
        text = pick(rng, "[Convert|Turn|Put] this [to|into] JSON: ", "[Write|Give me] this as JSON: ", "As JSON: ") + listed
    else:
        return described(rng)
    answer = json.dumps(value, ensure_ascii=False)
    return Dialogue("json", f"json|{answer}", [user(typed(rng, text)), assistant(answer)], expected=[answer], match="json")


def described(rng):
    """A sentence into fields."""
    who, age, city, job = name(rng), rng.randint(5, 90), rng.choice(CITIES), rng.choice(JOBS)
    sentence, value = rng.choice((
        (f"{who} is {age} years old and lives in {city}.", {"name": who, "age": age, "city": city}),
        (f"{who} is {article(job)} from {city}.", {"name": who, "job": job, "city": city}),
        (f"{who} is {article(job)} and {age} years old.", {"name": who, "job": job, "age": age}),
    ))  # fmt: skip
    fields = ", ".join(value)
    text = pick(rng, f"[Extract|Give me|Return] {fields} as JSON: {sentence}", f"[Extract|Put] {fields} from this sentence into JSON: {sentence}")
    answer = json.dumps(value, ensure_ascii=False)
    return Dialogue("json", f"json|{answer}", [user(text), assistant(answer)], expected=[answer], match="json")


def json_list(rng):
    n = rng.randint(2, 6)
    if rng.random() < 0.5:
        items = [rng.randint(0, 99) for _ in range(n)]
    else:
        items = rng.sample(rng.choice((THINGS, COLOURS, CITIES)), n)
    listed = ", ".join(map(str, items))
    text = pick(rng, f"[Give me|Write|Make|Return] a JSON [array|list] of {listed}.", f"[Convert|Turn] this list to JSON: {listed}", f"[Write|Put] {listed} as a JSON array.")
    answer = json.dumps(items, ensure_ascii=False)
    return Dialogue("json", f"json|{answer}", [user(typed(rng, text)), assistant(answer)], expected=[answer], match="json")


# name of the function, how many arguments, its value
FUNCTIONS = [
    ("add", 2, "{a} + {b}"), ("sum", 2, "{a} + {b}"), ("subtract", 2, "{a} - {b}"), ("difference", 2, "{a} - {b}"), ("multiply", 2, "{a} * {b}"),
    ("product", 2, "{a} * {b}"), ("divide", 2, "{a} / {b}"), ("quotient", 2, "{a} / {b}"), ("remainder", 2, "{a} % {b}"), ("area", 2, "{a} * {b}"),
    ("perimeter", 2, "2 * ({a} + {b})"), ("average", 2, "({a} + {b}) / 2"), ("is_equal", 2, "{a} == {b}"), ("is_greater", 2, "{a} > {b}"),
    ("is_less", 2, "{a} < {b}"), ("square", 1, "{a} * {a}"), ("cube", 1, "{a} * {a} * {a}"), ("double", 1, "2 * {a}"), ("triple", 1, "3 * {a}"),
    ("half", 1, "{a} / 2"), ("negate", 1, "-{a}"), ("increment", 1, "{a} + 1"), ("decrement", 1, "{a} - 1"), ("is_even", 1, "{a} % 2 == 0"),
    ("is_odd", 1, "{a} % 2 == 1"), ("is_zero", 1, "{a} == 0"), ("is_positive", 1, "{a} > 0"), ("is_negative", 1, "{a} < 0"), ("identity", 1, "{a}"),
]  # fmt: skip
PYTHON_FUNCTIONS = [
    ("power", 2, "{a} ** {b}"), ("length", 1, "len({a})"), ("first", 1, "{a}[0]"), ("last", 1, "{a}[-1]"), ("total", 1, "sum({a})"), ("largest", 1, "max({a})"),
    ("smallest", 1, "min({a})"), ("maximum", 2, "max({a}, {b})"), ("minimum", 2, "min({a}, {b})"), ("absolute", 1, "abs({a})"), ("upper", 1, "{a}.upper()"),
    ("lower", 1, "{a}.lower()"), ("reverse", 1, "{a}[::-1]"), ("greet", 1, 'f"Hello, {{{a}}}!"'), ("is_empty", 1, "len({a}) == 0"), ("to_text", 1, "str({a})"),
]  # fmt: skip
ARGUMENTS = [("a", "b"), ("x", "y"), ("n", "m"), ("first", "second"), ("left", "right"), ("p", "q"), ("u", "v"), ("value", "other"), ("width", "height"),
             ("number", "factor"), ("s", "t"), ("i", "j"), ("one", "two"), ("items", "more"), ("text", "rest")]  # fmt: skip


def camel(text):
    head, *rest = text.split("_")
    return head + "".join(word.capitalize() for word in rest)


def fill_in_the_middle(rng):
    language = rng.choice(("python", "python", "javascript", "rust"))
    function, n, body = rng.choice(FUNCTIONS + PYTHON_FUNCTIONS if language == "python" else FUNCTIONS)
    names = rng.choice(ARGUMENTS) if rng.random() < 0.85 else (made_up(rng, 1), made_up(rng, 2))
    value = body.format(a=names[0], b=names[1])
    if language == "python":
        head = f"def {function}({', '.join(names[:n])}):\n    return "
        tail = "\n"
    elif language == "javascript":
        head, tail = f"function {camel(function)}({', '.join(names[:n])}) {{\n  return ", ";\n}\n"
    else:
        kind = "bool" if function.startswith("is_") else "i32"
        arguments = ", ".join(f"{name}: i32" for name in names[:n])
        head, tail = f"fn {function}({arguments}) -> {kind} {{\n    ", "\n}\n"
    if rng.random() < 0.3:
        tail += "\n" + (f"print({function}({', '.join('23'[:n])}))\n" if language == "python" else "")
    text = value
    cut = rng.random()
    if cut < 0.25 and len(value) > 3:
        at = value.index(" ") if " " in value else 0
        head, text = head + value[:at], value[at:]
    elif cut < 0.4:
        head, text = head[: -len("return ")] if head.endswith("return ") else head, ("return " if head.endswith("return ") else "") + value
    return Dialogue("fim", f"fim|{function} {names} {language} {text}", expected=[text], fim=(head, tail, text))


