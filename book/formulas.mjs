// Draws formulas while the book is built: reads a line of JSON { tex, displayMode }, writes a
// line with either { html } or { error }. It ends when its input does.
import { createInterface } from "node:readline";
import katex from "katex";

function draw({ tex, displayMode }) {
  try {
    return { html: katex.renderToString(tex, { displayMode, strict: "error" }) };
  } catch (error) {
    return { error: error.message };
  }
}
for await (const line of createInterface({ input: process.stdin }))
  process.stdout.write(`${JSON.stringify(draw(JSON.parse(line)))}\n`);
