// The page's only script. It keeps settings in this browser, and a chat until its tab is closed.
"use strict";

const $ = (id) => document.getElementById(id);
const chat = $("chat");
const SETTINGS = ["system", "temperature", "top_p", "max_tokens", "seed", "thinking", "key"];
const MAX_FILE = 2 << 20;

/** What was said: {role, content, files?}. */
let messages = [];
let files = [];
let running = null;

// Markdown, as elements: text never becomes HTML.

function element(name, text) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  return made;
}

const INLINE = /(`+)(.+?)\1|\*\*(.+?)\*\*|__(.+?)__|\*([^*\s](?:[^*]*[^*\s])?)\*|~~(.+?)~~|\[([^\]]+)\]\((https?:\/\/[^\s)]+)\)/s;

function inline(parent, text) {
  for (;;) {
    const found = INLINE.exec(text);
    if (!found) break;
    parent.append(text.slice(0, found.index));
    const [whole, , code, strong, strong2, em, strike, label, link] = found;
    let made;
    if (code !== undefined) {
      made = element("code", code.trim());
    } else if (link !== undefined) {
      made = element("a");
      made.href = link;
      made.rel = "noopener noreferrer";
      made.target = "_blank";
      inline(made, label);
    } else {
      made = element(strong ?? strong2 ? "strong" : em ? "em" : "s");
      inline(made, strong ?? strong2 ?? em ?? strike);
    }
    parent.append(made);
    text = text.slice(found.index + whole.length);
  }
  parent.append(text);
}

const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
const isRule = (line) => /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/.test(line ?? "") && line.includes("-");
const ITEM = /^(\s*)([-*+]|\d+[.)])\s+(.*)$/;

function table(lines) {
  const made = element("table");
  const row = (line, name) => {
    const tr = element("tr");
    for (const cell of cells(line)) {
      const td = element(name);
      inline(td, cell);
      tr.append(td);
    }
    made.append(tr);
  };
  row(lines[0], "th");
  lines.slice(2).forEach((line) => row(line, "td"));
  return made;
}

function list(lines) {
  const first = ITEM.exec(lines[0]);
  const made = element(/\d/.test(first[2]) ? "ol" : "ul");
  if (made.tagName === "OL") made.start = parseInt(first[2], 10);
  let at = 0;
  while (at < lines.length) {
    const item = ITEM.exec(lines[at++]);
    const inner = [];
    while (at < lines.length) {
      const next = ITEM.exec(lines[at]);
      if (next && next[1].length <= first[1].length) break;
      inner.push(lines[at++]);
    }
    const li = element("li");
    inline(li, item ? item[3] : "");
    const indent = Math.min(...inner.filter((line) => line.trim()).map((line) => /^\s*/.exec(line)[0].length));
    if (inner.length) li.append(markdown(inner.map((line) => line.slice(indent)).join("\n")));
    made.append(li);
  }
  return made;
}

function markdown(text) {
  const out = document.createDocumentFragment();
  const lines = text.split("\n");
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    const fence = /^\s*(`{3,}|~{3,})/.exec(line);
    const heading = /^(#{1,6})\s+(.*)$/.exec(line);
    if (fence) {
      const inner = [];
      for (at++; at < lines.length && !lines[at].trim().startsWith(fence[1]); at++) inner.push(lines[at]);
      at++;
      const pre = element("pre");
      pre.append(element("code", inner.join("\n")));
      out.append(pre);
    } else if (heading) {
      const made = element("h" + Math.min(6, heading[1].length + 1));
      inline(made, heading[2]);
      out.append(made);
      at++;
    } else if (/^\s*([-*_])(\s*\1){2,}\s*$/.test(line)) {
      out.append(element("hr"));
      at++;
    } else if (line.startsWith(">")) {
      const inner = [];
      while (at < lines.length && lines[at].startsWith(">")) inner.push(lines[at++].replace(/^> ?/, ""));
      const quote = element("blockquote");
      quote.append(markdown(inner.join("\n")));
      out.append(quote);
    } else if (line.includes("|") && isRule(lines[at + 1])) {
      const rows = [];
      while (at < lines.length && lines[at].includes("|")) rows.push(lines[at++]);
      out.append(table(rows));
    } else if (ITEM.test(line)) {
      const items = [];
      while (at < lines.length && (ITEM.test(lines[at]) || /^\s{2,}\S/.test(lines[at]))) items.push(lines[at++]);
      out.append(list(items));
    } else if (!line.trim()) {
      at++;
    } else {
      const inner = [];
      while (at < lines.length && lines[at].trim() && !/^(#{1,6}\s|>|\s*(`{3,}|~{3,}))/.test(lines[at]) && !ITEM.test(lines[at])) {
        inner.push(lines[at++]);
      }
      const made = element("p");
      inline(made, inner.join("\n"));
      out.append(made);
    }
  }
  return out;
}

// Messages.

function button(text, action) {
  const made = element("button", text);
  made.type = "button";
  made.addEventListener("click", action);
  return made;
}

function show(message) {
  const made = element("article");
  made.className = "message " + message.role;
  const body = element("div");
  body.className = "body";
  made.append(body);
  chat.append(made);
  if (message.role === "user") {
    const names = (message.files ?? []).map((file) => "📎 " + file.name + "\n").join("");
    body.textContent = names + message.content;
  } else {
    draw(body, message);
  }
  return made;
}

function draw(body, message) {
  const isOpen = body.querySelector("details")?.open ?? false;
  body.replaceChildren();
  if (message.reasoning) {
    const details = element("details", message.reasoning.trim());
    details.open = isOpen || !message.content;
    details.prepend(element("summary", "Reasoning"));
    body.append(details);
  }
  body.append(markdown(message.content));
  if (message.error) {
    const error = element("p", message.error);
    error.className = "error";
    body.append(error);
  }
}

function finish(made, message) {
  const tools = element("div");
  tools.className = "tools";
  tools.append(button("Copy", () => navigator.clipboard?.writeText(message.content)));
  tools.append(button("Regenerate", regenerate));
  if (message.speed) {
    const speed = element("span", message.speed);
    speed.className = "quiet";
    tools.append(speed);
  }
  document.querySelectorAll(".tools").forEach((old) => old.remove());
  made.append(tools);
}

/** For when the page is loaded again. */
function keep() {
  try {
    sessionStorage.setItem("chat", JSON.stringify(messages));
  } catch {
    sessionStorage.removeItem("chat"); // It is too large.
  }
}

function showKept() {
  messages = JSON.parse(sessionStorage.getItem("chat") ?? "[]");
  for (const message of messages) {
    const made = show(message);
    if (message.role === "assistant") finish(made, message);
  }
  scroll(true);
}

function scroll(force) {
  if (force || chat.scrollHeight - chat.scrollTop - chat.clientHeight < 120) chat.scrollTop = chat.scrollHeight;
}

// Asking.

function headers() {
  const key = $("key").value;
  return { "Content-Type": "application/json", ...(key ? { Authorization: "Bearer " + key } : {}) };
}

/** A file stands before the question, as DeepSeek's own chat has it. */
function framed(message) {
  const parts = (message.files ?? []).map(
    (file) => `[file name]: ${file.name}\n[file content begin]\n${file.text}\n[file content end]\n`);
  return parts.join("") + message.content;
}

function request() {
  const number = (id) => ($(id).value === "" ? undefined : Number($(id).value));
  const system = $("system").value.trim();
  const history = messages.map((message) => ({ role: message.role, content: framed(message) }));
  return {
    messages: system ? [{ role: "system", content: system }, ...history] : history,
    stream: true,
    stream_options: { include_usage: true },
    temperature: number("temperature"),
    top_p: number("top_p"),
    max_tokens: number("max_tokens"),
    seed: number("seed"),
    ...($("thinking").checked ? { chat_template_kwargs: { thinking: true } } : {}),
  };
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    let end;
    while ((end = rest.indexOf("\n\n")) >= 0) {
      yield rest.slice(0, end);
      rest = rest.slice(end + 2);
    }
  }
}

function take(message, event) {
  if (event.startsWith(":")) {
    $("status").textContent = event.slice(1).trim();
    return;
  }
  const text = event.replace(/^data: ?/, "");
  if (text === "[DONE]") return;
  const value = JSON.parse(text);
  if (value.error) throw new Error(value.error.message);
  if (value.timings) {
    const { predicted_n, predicted_per_second } = value.timings;
    const { prompt_tokens, prompt_tokens_details } = value.usage;
    message.speed = `${predicted_n} tokens, ${predicted_per_second.toFixed(1)} tokens/s; prompt ${prompt_tokens} tokens, `
      + `${prompt_tokens_details.cached_tokens} of them cached`;
  }
  const delta = value.choices[0]?.delta ?? {};
  message.content += delta.content ?? "";
  message.reasoning += delta.reasoning_content ?? "";
  if (delta.content || delta.reasoning_content) $("status").textContent = "";
}

async function answer() {
  const body = JSON.stringify(request());
  const message = { role: "assistant", content: "", reasoning: "" };
  const made = show(message);
  const shown = made.querySelector(".body");
  running = new AbortController();
  $("send").hidden = true;
  $("stop").hidden = false;
  $("status").textContent = "waiting";
  let isDrawn = true;
  const redraw = () => {
    isDrawn = true;
    draw(shown, message);
    scroll(false);
  };
  try {
    const response = await fetch("v1/chat/completions", { method: "POST", headers: headers(), body, signal: running.signal });
    if (!response.ok) {
      const value = await response.json().catch(() => ({}));
      if (response.status === 401) $("settings").hidden = false;
      throw new Error(value.error?.message ?? `the server answered ${response.status}`);
    }
    for await (const event of events(response)) {
      take(message, event);
      // As often as the screen is drawn, however fast tokens come.
      if (isDrawn) {
        isDrawn = false;
        requestAnimationFrame(redraw);
      }
    }
  } catch (error) {
    if (error.name !== "AbortError") message.error = error.message;
  }
  running = null;
  draw(shown, message);
  if (message.content || message.reasoning) messages.push(message);
  keep();
  $("send").hidden = false;
  $("stop").hidden = true;
  $("status").textContent = message.error ? "" : message.speed ?? "";
  finish(made, message);
  scroll(false);
  $("question").focus();
}

function ask() {
  const text = $("question").value.trim();
  if (running || (!text && !files.length)) return;
  // A question that has no answer goes with the next one out of the way.
  if (messages.at(-1)?.role === "user") messages.pop();
  const message = { role: "user", content: text, files };
  messages.push(message);
  keep();
  show(message);
  files = [];
  listFiles();
  $("question").value = "";
  grow();
  scroll(true);
  answer();
}

function regenerate() {
  if (running) return;
  if (messages.at(-1)?.role === "assistant") messages.pop();
  chat.lastElementChild?.remove();
  if (messages.length) answer();
}

function newChat() {
  running?.abort();
  messages = [];
  keep();
  chat.replaceChildren();
  $("status").textContent = "";
  $("question").focus();
}

// Files.

async function attach(chosen) {
  for (const file of chosen) {
    if (file.size > MAX_FILE) {
      $("status").textContent = `${file.name} is too large: at most 2 MB`;
      continue;
    }
    try {
      const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
      files.push({ name: file.name, text });
    } catch {
      $("status").textContent = `${file.name} is no text`;
    }
  }
  listFiles();
}

function listFiles() {
  $("files").replaceChildren(...files.map((file) => {
    const item = element("li", "📎 " + file.name);
    const remove = button("×", () => {
      files = files.filter((other) => other !== file);
      listFiles();
    });
    remove.title = "Remove " + file.name;
    item.append(remove);
    return item;
  }));
}

// The page.

function grow() {
  const field = $("question");
  field.rows = Math.min(12, field.value.split("\n").length);
}

function restore() {
  const kept = JSON.parse(localStorage.getItem("cachalot") ?? "{}");
  for (const id of SETTINGS) {
    const field = $(id);
    if (field.type === "checkbox") field.checked = kept[id] === true;
    else field.value = kept[id] ?? "";
    field.addEventListener("change", () => {
      const values = SETTINGS.map((id) => [id, $(id).type === "checkbox" ? $(id).checked : $(id).value]);
      localStorage.setItem("cachalot", JSON.stringify(Object.fromEntries(values)));
      if (id === "key") nameModel();
    });
  }
}

/** The model's name; while it is being loaded, how far that is. */
async function nameModel() {
  try {
    const health = await fetch("health");
    const { status, loading } = await health.json();
    if (!health.ok) {
      const part = loading ? ` ${Math.round(loading.progress * 100)} %` : "";
      $("model").textContent = status + part;
      setTimeout(nameModel, 1000);
      return;
    }
    const response = await fetch("v1/models", { headers: headers() });
    if (response.status === 401) {
      $("model").textContent = "a key is needed: see Settings";
      return;
    }
    const model = (await response.json()).data[0];
    $("model").textContent = `${model.id}, ${model.max_model_len} tokens of context`;
  } catch {
    $("model").textContent = "the server cannot be reached";
    setTimeout(nameModel, 3000);
  }
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
$("settings").addEventListener("submit", (event) => event.preventDefault());
$("question").addEventListener("input", grow);
$("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    ask();
  }
});
$("stop").addEventListener("click", () => running?.abort());
$("new").addEventListener("click", newChat);
$("show-settings").addEventListener("click", (event) => {
  $("settings").hidden = !$("settings").hidden;
  event.target.setAttribute("aria-expanded", String(!$("settings").hidden));
});
$("choose").addEventListener("click", () => $("attach").click());
$("attach").addEventListener("change", (event) => {
  attach(event.target.files);
  event.target.value = "";
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
  if (event.ctrlKey && event.shiftKey && event.key.toLowerCase() === "o") {
    event.preventDefault();
    newChat();
  }
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  attach(event.dataTransfer.files);
});

restore();
showKept();
nameModel();
