"""What the official Python clients make of a server with the demo model: python check.py http://127.0.0.1:8080"""

import json
import os
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import anthropic
import litellm
import ollama
import openai

BASE = sys.argv[1]
QUESTION = [{"role": "user", "content": "What is 17 + 25?"}]
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": SCHEMA}}


def same(found, expected):
    assert found == expected, f"{found!r} is not {expected!r}"


def openai_chat():
    client = openai.OpenAI(base_url=f"{BASE}/v1", api_key="none")
    same([model.id for model in client.models.list()], ["demo"])
    whole = client.chat.completions.create(model="demo", messages=QUESTION, logprobs=True, top_logprobs=2)
    same(whole.choices[0].message.content, "42")
    same(whole.choices[0].finish_reason, "stop")
    same(len(whole.choices[0].logprobs.content[0].top_logprobs), 2)
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    stream = client.chat.completions.create(
        model="demo", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    text, usage = "", None
    for chunk in stream:
        usage = chunk.usage or usage
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
    same(text, "42")
    assert usage.completion_tokens > 0
    forced = client.chat.completions.create(
        model="demo", messages=QUESTION, tools=[TOOL], tool_choice="required", max_tokens=80
    )
    call = forced.choices[0].message.tool_calls[0]
    same(call.function.name, "add")
    assert isinstance(json.loads(call.function.arguments)["n"], int)
    history = [*QUESTION, forced.choices[0].message.model_dump(exclude_none=True)]
    history.append({"role": "tool", "tool_call_id": call.id, "content": "42"})
    client.chat.completions.create(model="demo", messages=history, tools=[TOOL], max_tokens=4)
    with client.chat.completions.stream(
        model="demo", messages=QUESTION, tools=[TOOL], tool_choice="required", max_tokens=80
    ) as events:
        streamed = events.get_final_completion().choices[0].message.tool_calls[0].function
        same((streamed.name, isinstance(json.loads(streamed.arguments)["n"], int)), ("add", True))
    schema = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
    shaped = client.chat.completions.create(model="demo", messages=QUESTION, response_format=schema, max_tokens=80)
    assert isinstance(json.loads(shaped.choices[0].message.content)["n"], int)


def openai_rest():
    client = openai.OpenAI(base_url=f"{BASE}/v1", api_key="none", max_retries=0)
    done = client.completions.create(model="demo", prompt="def add(a, b):\n", suffix="\nprint(add(1, 2))", max_tokens=16)
    assert done.choices[0].text
    response = client.responses.create(model="demo", input="What is 17 + 25?")
    same((response.output_text, response.status), ("42", "completed"))
    with client.responses.stream(model="demo", input="What is 17 + 25?") as events:
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        same((text, events.get_final_response().output_text), ("42", "42"))
    tool = {"type": "function", **TOOL["function"]}
    called = client.responses.create(
        model="demo", input="What is 17 + 25?", tools=[tool], tool_choice="required", max_output_tokens=80
    )
    same((called.output[0].type, called.output[0].name), ("function_call", "add"))
    asked = dict(model="demo", input="What is 17 + 25?", tools=[tool], tool_choice="required")
    with client.responses.stream(**asked, max_output_tokens=80) as events:
        text = "".join(event.delta for event in events if event.type == "response.function_call_arguments.delta")
        same(events.get_final_response().output[0].arguments, text)
        assert isinstance(json.loads(text)["n"], int)
    cut = client.responses.create(**asked, max_output_tokens=2)
    same((cut.output[0].status, cut.incomplete_details.reason), ("incomplete", "max_output_tokens"))
    for error, ask in [
        (openai.NotFoundError, lambda: client.chat.completions.create(model="gpt-4", messages=QUESTION)),
        (openai.BadRequestError, lambda: client.chat.completions.create(model="demo", messages=[])),
        (openai.APIStatusError, lambda: client.embeddings.create(model="demo", input="x")),
    ]:
        try:
            ask()
        except error:
            continue
        raise AssertionError(f"no {error}")


def anthropic_messages():
    client = anthropic.Anthropic(base_url=BASE, api_key="none", max_retries=0)
    whole = client.messages.create(model="demo", max_tokens=50, messages=QUESTION)
    same((whole.content[0].text, whole.stop_reason), ("42", "end_turn"))
    with client.messages.stream(model="demo", max_tokens=50, messages=QUESTION) as stream:
        same("".join(stream.text_stream), "42")
        same(stream.get_final_message().stop_reason, "end_turn")
    counted = client.messages.count_tokens(model="demo", messages=QUESTION)
    same(counted.input_tokens, whole.usage.input_tokens + whole.usage.cache_read_input_tokens)
    tool = {"name": "add", "description": "Adds.", "input_schema": SCHEMA}
    forced = {"tool_choice": {"type": "tool", "name": "add"}, "tools": [tool]}
    called = client.messages.create(model="demo", max_tokens=80, messages=QUESTION, **forced)
    same((called.content[0].type, called.stop_reason), ("tool_use", "tool_use"))
    assert isinstance(called.content[0].input["n"], int)
    for max_tokens, reason in [(80, "tool_use"), (2, "max_tokens")]:
        with client.messages.stream(model="demo", max_tokens=max_tokens, messages=QUESTION, **forced) as stream:
            streamed = stream.get_final_message()
        same((streamed.content[0].type, streamed.content[0].name, streamed.stop_reason), ("tool_use", "add", reason))
        same(isinstance(streamed.content[0].input.get("n"), int), reason == "tool_use")
    result = {"type": "tool_result", "tool_use_id": called.content[0].id, "content": "42"}
    history = [
        *QUESTION,
        {"role": "assistant", "content": [block.model_dump(include={"type", "id", "name", "input"}) for block in called.content]},
        {"role": "user", "content": [result]},
    ]
    client.messages.create(model="demo", max_tokens=4, messages=history, tools=[tool])
    try:
        client.messages.create(model="claude", max_tokens=4, messages=QUESTION)
    except anthropic.NotFoundError:
        return
    raise AssertionError("an unknown model is taken")


def ollama_chat():
    client = ollama.Client(host=BASE)
    same([model.model for model in client.list().models], ["demo:latest"])
    same(client.chat(model="demo", messages=QUESTION).message.content, "42")
    parts = client.chat(model="demo", messages=QUESTION, stream=True)
    same("".join(part.message.content for part in parts), "42")
    same(client.generate(model="demo", prompt="What is 17 + 25?").response, "42")
    shaped = client.chat(model="demo", messages=QUESTION, format=SCHEMA, options={"num_predict": 80})
    assert isinstance(json.loads(shaped.message.content)["n"], int)
    assert "completion" in client.show("demo").capabilities
    same(len(client.ps().models), 1)


def litellm_chat():
    for model, base in [("openai/demo", f"{BASE}/v1"), ("ollama_chat/demo", BASE)]:
        whole = litellm.completion(model=model, api_base=base, api_key="none", messages=QUESTION)
        same(whole.choices[0].message.content, "42")
        stream = litellm.completion(model=model, api_base=base, api_key="none", messages=QUESTION, stream=True)
        same("".join(chunk.choices[0].delta.content or "" for chunk in stream), "42")


for check in [openai_chat, openai_rest, anthropic_messages, ollama_chat, litellm_chat]:
    check()
    print(check.__name__, "passed", flush=True)
