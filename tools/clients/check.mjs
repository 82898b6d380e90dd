// What the official clients for Node make of a server with the demo model: node check.mjs http://127.0.0.1:8080
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const base = process.argv[2];
const messages = [{ role: "user", content: "What is 17 + 25?" }];
const parameters = {
  type: "object", properties: { n: { type: "integer" } }, required: ["n"], additionalProperties: false,
};

const openai = new OpenAI({ baseURL: `${base}/v1`, apiKey: "none", maxRetries: 0 });
const whole = await openai.chat.completions.create({ model: "demo", messages });
assert.equal(whole.choices[0].message.content, "42");
let text = "";
for await (const chunk of await openai.chat.completions.create({ model: "demo", messages, stream: true })) {
  text += chunk.choices[0]?.delta?.content ?? "";
}
assert.equal(text, "42");
const called = await openai.chat.completions
  .stream({
    model: "demo", messages, max_tokens: 80, tool_choice: "required",
    tools: [{ type: "function", function: { name: "add", parameters } }],
  })
  .finalChatCompletion();
assert.ok(Number.isInteger(JSON.parse(called.choices[0].message.tool_calls[0].function.arguments).n));
const response = await openai.responses.create({ model: "demo", input: "What is 17 + 25?" });
assert.equal(response.output_text, "42");
// Who leaves in the midst of an answer.
const left = await openai.chat.completions.create({ model: "demo", messages, stream: true, logit_bias: { 1: -100 } });
for await (const _ of left) break;
await assert.rejects(openai.chat.completions.create({ model: "gpt-4", messages }), OpenAI.NotFoundError);
console.log("openai passed");

const anthropic = new Anthropic({ baseURL: base, apiKey: "none", maxRetries: 0 });
const message = await anthropic.messages.create({ model: "demo", max_tokens: 50, messages });
assert.equal(message.content[0].text, "42");
const streamed = await anthropic.messages.stream({ model: "demo", max_tokens: 50, messages }).finalText();
assert.equal(streamed, "42");
const tools = [{ name: "add", input_schema: parameters }];
const forced = { model: "demo", messages, tools, tool_choice: { type: "any" } };
const use = await anthropic.messages.stream({ ...forced, max_tokens: 80 }).finalMessage();
assert.ok(use.stop_reason === "tool_use" && Number.isInteger(use.content[0].input.n));
const cut = await anthropic.messages.stream({ ...forced, max_tokens: 2 }).finalMessage();
assert.deepEqual([cut.stop_reason, cut.content[0].name], ["max_tokens", "add"]);
console.log("anthropic passed");
