"""Calls of tools, and answers from what they return."""

import json

from dialogue import Dialogue, assistant, is_heldout, system, tool_result, user
from families.vocabulary import CITIES, NAMES, THINGS, WEEKDAYS, made_up, name
from phrase import pick, typed


def definition(function, about, **parameters):
    """`parameters`: name to (type, description)."""
    properties = {key: {"type": kind, "description": text} for key, (kind, text) in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    return {"type": "function", "function": {"name": function, "description": about, "parameters": schema}}


def weather(rng):
    function, key = pick(rng, "[get_weather|get_weather|weather|get_current_weather]"), pick(rng, "[city|city|location]")
    city = place(rng)
    degrees, sky = rng.randint(-15, 40), pick(rng, "[sunny|cloudy|rainy|snowy|windy|foggy]")
    text = pick(rng, f"[What is|What's|How is|How's] the weather [in|like in] {city}?", f"[Tell me|Give me] the weather in {city}.", f"Weather in {city}?",
                f"Is it [raining|cold|warm] in {city}?", f"Wie ist das Wetter in {city}?")  # fmt: skip
    result = rng.choice((f'{{"temperature": {degrees}, "condition": "{sky}"}}', f'{{"city": "{city}", "temperature": {degrees}, "condition": "{sky}"}}'))
    answer = f"It is {sky} in {city}, at {degrees} degrees."
    return definition(function, "Get the weather of a city", **{key: ("string", "The city")}), text, {key: city}, result, answer


def place(rng):
    return rng.choice(CITIES) if rng.random() < 0.8 else made_up(rng).capitalize()


def clock(rng):
    city, hour, minute = place(rng), rng.randint(0, 23), rng.randint(10, 59)
    text = pick(rng, f"[What time is it|What's the time|What is the time] in {city}?", f"[Tell me|Give me] the time in {city}.", f"How late is it in {city}?")
    result = f'{{"time": "{hour}:{minute}"}}'
    return definition("get_time", "Get the current time of a city", city=("string", "The city")), text, {"city": city}, result, f"It is {hour}:{minute} in {city}."


def calculator(rng):
    a, b, sign = rng.randint(100, 9999), rng.randint(11, 9999), rng.choice("+-*")
    expression = f"{a} {sign} {b}"
    value = a + b if sign == "+" else a - b if sign == "-" else a * b
    text = pick(rng, f"[What is|Calculate|Compute|How much is] {expression}?")
    function = rng.choice(("calculate", "calculator"))
    return (definition(function, "Evaluate an expression", expression=("string", "The expression")), text, {"expression": expression},
            rng.choice((str(value), f'{{"result": {value}}}')), f"{expression} = {value}")  # fmt: skip


def stock(rng):
    thing, n = rng.choice(THINGS), rng.randint(0, 999)
    text = pick(rng, f"How many {thing} [are in stock|do we have|are left]?", f"[Check|Look up] the stock of {thing}.")
    return (definition("get_stock", "Number of items in stock", item=("string", "The item")), text, {"item": thing},
            f'{{"item": "{thing}", "count": {n}}}', f"There are {n} {thing} in stock.")  # fmt: skip


def price(rng):
    thing, n = rng.choice(THINGS), rng.randint(1, 99)
    text = pick(rng, f"[What is|What's] the price of {thing}?", f"How much do {thing} cost?", f"What do {thing} cost?")
    return (definition("get_price", "Price of an item", item=("string", "The item")), text, {"item": thing},
            rng.choice((f'{{"price": {n}}}', f'{{"item": "{thing}", "price": {n}}}')), f"The price of {thing} is {n}.")  # fmt: skip


def message(rng):
    who, word = name(rng), pick(rng, "[hello|good morning|I am late|see you soon|thank you|happy birthday|call me|dinner is ready]")
    text = pick(rng, f"[Send|Write] {who} the message: {word}", f"[Send|Write] a message to {who}: {word}", f"[Tell|Text] {who}: {word}")
    return (definition("send_message", "Send a message to a person", to=("string", "The person"), text=("string", "The message")), text,
            {"to": who, "text": word}, rng.choice(('{"status": "sent"}', '{"ok": true}')), f"The message to {who} is sent.")  # fmt: skip


def timer(rng):
    n = rng.randint(1, 90)
    text = pick(rng, f"[Set|Start|Please set] a timer for {n} minutes.", f"[Set a timer|Remind me] in {n} minutes.", f"Timer: {n} minutes")
    return (definition("set_timer", "Set a timer", minutes=("integer", "Minutes from now")), text, {"minutes": n},
            rng.choice(('{"status": "started"}', '{"ok": true}')), f"The timer is set to {n} minutes.")  # fmt: skip


def lamp(rng):
    room, state = pick(rng, "[kitchen|bedroom|bathroom|hall|garden|office|garage|cellar]"), rng.choice(("on", "off"))
    text = pick(rng, f"[Turn|Switch|Please turn] {state} the light in the {room}.", f"[Turn|Switch] the {room} light {state}.", f"Light {state} in the {room}, please.")
    return (definition("set_light", "Switch the light of a room", room=("string", "The room"), state=("string", "on or off")), text,
            {"room": room, "state": state}, rng.choice(('{"status": "done"}', '{"ok": true}')), f"The light in the {room} is {state}.")  # fmt: skip


def appointment(rng):
    day, hour, who = rng.choice(WEEKDAYS), rng.randint(1, 12), name(rng)
    text = pick(rng, f"[Book|Make|Arrange] an appointment with {who} on {day} at {hour}.", f"[Schedule|Plan] a meeting with {who} on {day} at {hour}.")
    return (definition("book_meeting", "Book a meeting", person=("string", "With whom"), day=("string", "Day of the week"), hour=("integer", "The hour")), text,
            {"person": who, "day": day, "hour": hour}, rng.choice(('{"status": "booked"}', '{"ok": true}')), f"The meeting with {who} is on {day} at {hour}.")  # fmt: skip


def invented(rng):
    """A tool that is known from its definition only."""
    what, who, value = pick(rng, "[level|score|rank|status|code|owner|color|size|weight|age]"), name(rng), rng.choice((made_up(rng), str(rng.randint(1, 999))))
    function, key = f"{pick(rng, '[get|find|look_up|read|fetch]')}_{what}", pick(rng, "[name|id|key|of|person|user]")
    text = pick(rng, f"[What is|What's|Tell me|Find|Look up] the {what} of {who}?")
    return (definition(function, f"Find the {what} of something", **{key: ("string", "Of what")}), text, {key: who},
            json.dumps({what: int(value) if value.isdigit() else value}), f"The {what} of {who} is {value}.")  # fmt: skip


TOOLS = (weather, weather, clock, calculator, stock, price, message, timer, lamp, appointment, invented, invented)


def toolbox(rng, wanted):
    """The definition that is wanted among others."""
    others = {}
    for make in rng.sample(TOOLS, rng.choice((0, 0, 1, 1, 2))):
        other = make(rng)[0]
        others[other["function"]["name"]] = other
    others.pop(wanted["function"]["name"], None)
    if wanted["function"]["name"] in ("get_weather", "weather", "get_current_weather"):
        others = {k: v for k, v in others.items() if "weather" not in k}
    if wanted["function"]["name"] in ("calculate", "calculator"):
        others = {k: v for k, v in others.items() if "calculat" not in k}
    tools = [wanted, *others.values()]
    rng.shuffle(tools)
    return tools


def opening(rng):
    return [system(pick(rng, "[You are a helpful assistant.|Use the tools.|You can use tools.|Help the user.]"))] if rng.random() < 0.4 else []


def ask_for(rng):
    """A question, its tools, the calls that answer it, their results and the answer."""
    make = rng.choice(TOOLS)
    tool, text, arguments, result, answer = make(rng)
    function = tool["function"]["name"]
    calls, results = [(function, arguments)], [result]
    if make in (weather, clock) and rng.random() < 0.25:
        key = next(iter(arguments))
        first, second = rng.sample(CITIES, 2)
        thing = "weather" if make is weather else "time"
        text = pick(rng, f"[What is|What's|Tell me] the {thing} in {first} and [in |]{second}?")
        calls = [(function, {key: first}), (function, {key: second})]
        if make is weather:
            skies = [(pick(rng, "[sunny|cloudy|rainy|windy]"), rng.randint(-15, 40)) for _ in range(2)]
            results = [f'{{"temperature": {t}, "condition": "{s}"}}' for s, t in skies]
            answer = " ".join(f"It is {s} in {c}, at {t} degrees." for c, (s, t) in zip((first, second), skies))
        else:
            times = [f"{rng.randint(0, 23)}:{rng.randint(10, 59)}" for _ in range(2)]
            results = [f'{{"time": "{t}"}}' for t in times]
            answer = " ".join(f"It is {t} in {c}." for c, t in zip((first, second), times))
    return tool, typed(rng, text) if text[0] != "W" or "Wie" not in text else text, calls, results, answer


def call_key(text, calls):
    return f"tool call|{text} {calls}"


def tool_call(rng, plain=None):
    """A call; or, with tools that do not help, the answer of a plain question."""
    tool, text, calls, _, _ = ask_for(rng)
    tools = toolbox(rng, tool)
    if plain is not None:
        messages = opening(rng) + plain.messages
        return Dialogue("tool call", plain.key, messages, tools, plain.expected)
    last = assistant("", calls)
    expected = [{"name": name, "arguments": arguments} for name, arguments in calls]
    return Dialogue("tool call", call_key(text, calls), [*opening(rng), user(text), last], tools, [expected], "calls")


def tool_answer(rng):
    tool, text, calls, results, answer = ask_for(rng)
    # It begins with a call, which must not be one of those that are asked for elsewhere.
    while is_heldout(call_key(text, calls)):
        tool, text, calls, results, answer = ask_for(rng)
    messages = [*opening(rng), user(text), assistant("", calls), *map(tool_result, results), assistant(answer)]
    return Dialogue("tool result", f"tool result|{text} {results}", messages, toolbox(rng, tool), [answer])
