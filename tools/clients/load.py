"""How fast a server is with 1, 2, 4, 8 and 16 chats at once, and how long a short question waits beside a long prompt:

    python tools/clients/load.py http://127.0.0.1:8080 [TOKENS [PROMPT_TOKENS]]

The server needs --parallel 16 and a context for all of it.
"""

import json
import re
import sys
import threading
import time
import urllib.request

base = sys.argv[1]
n_tokens = int(sys.argv[2]) if len(sys.argv) > 2 else 64
n_prompt = int(sys.argv[3]) if len(sys.argv) > 3 else 16_000


def post(path, body):
    data = json.dumps(body).encode()
    request = urllib.request.Request(base + path, data, {"Content-Type": "application/json"})
    return urllib.request.urlopen(request, timeout=3600)


def ask(text, n):
    """Seconds until the first token, and tokens."""
    start, first, usage = time.monotonic(), None, None
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": n, "temperature": 0, "stream": True,
            "stream_options": {"include_usage": True}, "logit_bias": {eos: -100}}
    for line in post("/v1/chat/completions", body):
        if line.startswith(b"data: {"):
            event = json.loads(line[6:])
            usage = event.get("usage") or usage
            if first is None and event["choices"] and event["choices"][0]["delta"].get("content"):
                first = time.monotonic() - start
    return first, usage


def tokens(text):
    return json.load(post("/tokenize", {"content": text, "parse_special": True}))["tokens"]


def experts():
    """Layers of routed experts that were computed so far, and the experts that they needed."""
    figures = urllib.request.urlopen(base + "/metrics").read().decode()
    return [float(re.search(rf"^cachalot_{name}_total (.*)$", figures, re.M)[1]) for name in ["expert_layers", "experts"]]


eos = str(tokens("<｜end▁of▁sentence｜>")[0])
print("chats  tokens/s  of each  experts a layer and step")
for n in [1, 2, 4, 8, 16]:
    threads = [threading.Thread(target=ask, args=(f"{i} {n} Tell me about the number {i * 7}.", n_tokens)) for i in range(n)]
    before, start = experts(), time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = n * n_tokens / (time.monotonic() - start)
    layers, needed = [after - was for after, was in zip(experts(), before)]
    print(f"{n:5}  {rate:8.1f}  {rate / n:7.1f}  {needed / layers:7.1f}", flush=True)

word = "word " * (n_prompt * 100 // len(tokens("word " * 100)))
alone, _ = ask("What is 17 + 25?", 4)
long = {}
thread = threading.Thread(target=lambda: long.update(zip(["first", "usage"], ask(word, 1))))
thread.start()
time.sleep(0.2)
beside = [ask(f"What is {i} + 25?", 4)[0] for i in range(11, 14)]
was_over = not thread.is_alive()
thread.join()
waited = ", ".join(f"{seconds * 1000:.0f}" for seconds in beside)
print(f"a short question's first token: {alone * 1000:.0f} ms alone, {waited} ms beside a prompt of "
      f"{long['usage']['prompt_tokens']} tokens, which took {long['first'] * 1000:.0f} ms"
      + (" and was over before the last of them" if was_over else ""))
