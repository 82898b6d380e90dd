"""A dialogue, and its form in DeepSeek-V3-0324's prompt format.

Messages are those of the OpenAI API (dicts with role and content; the assistant's may hold tool_calls). A
dialogue is rendered as segments, control tokens and text apart, so that no text can become a control token.
"""

import json
import zlib
from dataclasses import dataclass, field

BOS = "<｜begin▁of▁sentence｜>"
EOS = "<｜end▁of▁sentence｜>"
PAD = "<｜▁pad▁｜>"
USER = "<｜User｜>"
ASSISTANT = "<｜Assistant｜>"
FIM_HOLE = "<｜fim▁hole｜>"
FIM_BEGIN = "<｜fim▁begin｜>"
FIM_END = "<｜fim▁end｜>"
CALLS_BEGIN = "<｜tool▁calls▁begin｜>"
CALLS_END = "<｜tool▁calls▁end｜>"
CALL_BEGIN = "<｜tool▁call▁begin｜>"
CALL_END = "<｜tool▁call▁end｜>"
OUTPUTS_BEGIN = "<｜tool▁outputs▁begin｜>"
OUTPUTS_END = "<｜tool▁outputs▁end｜>"
OUTPUT_BEGIN = "<｜tool▁output▁begin｜>"
OUTPUT_END = "<｜tool▁output▁end｜>"
SEP = "<｜tool▁sep｜>"

# In the order of V3's ids: three first, the others behind the text tokens.
FIRST_CONTROLS = [BOS, EOS, PAD]
LAST_CONTROLS = [
    FIM_HOLE, FIM_BEGIN, FIM_END, USER, ASSISTANT, "<|EOT|>", CALLS_BEGIN, CALLS_END, CALL_BEGIN, CALL_END,
    OUTPUTS_BEGIN, OUTPUTS_END, OUTPUT_BEGIN, OUTPUT_END, SEP,
]  # fmt: skip

HELDOUT_ONE_IN = 16


def is_heldout(key):
    """Whether the question with this key is kept out of training."""
    return zlib.crc32(key.encode()) % HELDOUT_ONE_IN == 0


@dataclass
class Dialogue:
    """What is said, and what identifies the question that its last answer is for.

    `expected` holds acceptable last answers; the first of them is in `messages`. With `match` "json" they are
    compared as JSON values, with "calls" as calls of tools. A dialogue with `fim` is (prefix, suffix, middle).
    """

    family: str
    key: str
    messages: list = field(default_factory=list)
    tools: list = field(default_factory=list)
    expected: list = field(default_factory=list)
    match: str = "exact"
    fim: tuple = ()

    @property
    def answer(self):
        return self.messages[-1]


def user(text):
    return {"role": "user", "content": text}


def system(text):
    return {"role": "system", "content": text}


def assistant(text, calls=()):
    message = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [
            {"type": "function", "function": {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}}
            for name, arguments in calls
        ]
    return message


def tool_result(text):
    return {"role": "tool", "content": text}


def question(family, key, text, answer, *more):
    """A dialogue of one question and its answer; `more` are other acceptable answers."""
    return Dialogue(family, f"{family}|{key}", [user(text), assistant(answer)], expected=[answer, *more])


class Segments(list):
    """Pairs (text, kind): kind 0 is a control token, 1 text, 2 a control token and 3 text that is to be learned."""

    def control(self, token, learned=False):
        self.append((token, 2 if learned else 0))

    def text(self, text, learned=False):
        if text:
            self.append((text, 3 if learned else 1))


def tool_definitions(out, tools):
    if not tools:
        return
    out.text(
        "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
        + "".join("\n" + json.dumps(tool, ensure_ascii=False) for tool in tools)
        + "\n</tools>\n\nTo call functions, print "
    )
    out.control(CALLS_BEGIN)
    out.text(" and then every call in this form:\n")
    out.control(CALL_BEGIN)
    out.text("function")
    out.control(SEP)
    out.text("{name of the function}\n```json\n{its arguments as a JSON object}\n```")
    out.control(CALL_END)
    out.text("\nAfter the last call, print ")
    out.control(CALLS_END)
    out.text(" and wait for the results.")


def tool_calls(out, calls):
    if not calls:
        return
    out.control(CALLS_BEGIN, True)
    for i, call in enumerate(calls):
        out.text("\n" if i else "", True)
        out.control(CALL_BEGIN, True)
        out.text("function", True)
        out.control(SEP, True)
        function = call["function"]
        out.text(f"{function['name']}\n```json\n{function['arguments']}\n```", True)
        out.control(CALL_END, True)
    out.control(CALLS_END, True)


def render(dialogue, with_answer=True):
    """The segments of a dialogue, up to its last answer or with it."""
    out = Segments()
    out.control(BOS)
    if dialogue.fim:
        return render_fim(out, dialogue.fim, with_answer)
    messages = dialogue.messages if with_answer else dialogue.messages[:-1]
    out.text("\n\n".join(m["content"] for m in messages if m["role"] == "system"))
    tool_definitions(out, dialogue.tools)
    last = ""
    for message in messages:
        role, text = message["role"], message["content"]
        if role == "system":
            continue
        if last == "tool" and role != "tool":
            out.control(OUTPUTS_END)
        if role == "user":
            out.control(USER)
            out.text(text)
            out.control(ASSISTANT)
        elif role == "assistant":
            out.text(text, True)
            tool_calls(out, message.get("tool_calls"))
            out.control(EOS, True)
        else:
            out.control(OUTPUTS_BEGIN) if last != "tool" else out.text("\n")
            out.control(OUTPUT_BEGIN)
            out.text(text)
            out.control(OUTPUT_END)
        last = role
    if last == "tool":
        out.control(OUTPUTS_END)
    return out


def render_fim(out, fim, with_answer):
    prefix, suffix, middle = fim
    out.control(FIM_BEGIN)
    out.text(prefix)
    out.control(FIM_HOLE)
    out.text(suffix)
    out.control(FIM_END)
    if with_answer:
        out.text(middle, True)
        out.control(EOS, True)
    return out
