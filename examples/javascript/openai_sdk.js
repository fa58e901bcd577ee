// OpenAI's SDK in JavaScript (Node 22 or newer): an answer as it comes.
//
//     npm ci --prefix examples/javascript
//     node examples/javascript/openai_sdk.js "What is a bond?"
//
// OPENAI_BASE_URL and OPENAI_API_KEY name another server than the one on this machine.

import OpenAI from "openai";

const client = new OpenAI({
  baseURL: process.env.OPENAI_BASE_URL || "http://127.0.0.1:8000/v1",
  apiKey: process.env.OPENAI_API_KEY || "none", // the SDK wants some text where the server wants no key
});
const models = await client.models.list();
const stream = await client.chat.completions.create({
  model: models.data[0].id,
  messages: [{ role: "user", content: process.argv[2] ?? "What is a bond?" }],
  max_tokens: 64,
  temperature: 0,
  stream: true,
});
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
console.log();
