// Draws formulas: reads a line of JSON { tex, display }, writes a line that holds either
// { html, width, glyphs } or { error }. The pages then need no script for mathematics.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const fail = (_, error) => { throw error; };
const MathJax = await createRequire(import.meta.url)("mathjax").init({
  loader: { load: ["input/tex-full", "output/svg", "a11y/assistive-mml"] },
  // Without these two a wrong formula stops the build, instead of turning red on the page.
  tex: { packages: { "[-]": ["noerrors", "noundefined"] }, formatError: fail },
  svg: { fontCache: "local" },
});
const { adaptor } = MathJax.startup;

/** The formula without what only MathJax's own menus read, its letters apart. */
function draw({ tex, display }) {
  const glyphs = {};
  const html = adaptor.outerHTML(MathJax.tex2svg(tex, { display }))
    .replace(/<defs>(.*?)<\/defs>/gs, (_, paths) => {
      for (const [, id, d] of paths.matchAll(/<path id="MJX-\d+-([^"]+)" d="([^"]*)"><\/path>/g))
        glyphs[`mj-${id}`] = d;
      return "";
    })
    .replace(/<use data-c="[^"]*" xlink:href="#MJX-\d+-([^"]+)"([^>]*)><\/use>/g, '<use href="#mj-$1"$2/>')
    .replace(/ (data-[\w-]+|xmlns(:xlink)?|focusable|role|jax|unselectable)="[^"]*"/g, "")
    .replace(/<g>(<use[^>]*>)<\/g>/g, "$1");
  const width = Number(/width="([\d.]+)ex"/.exec(html)?.[1] ?? 0);
  return { html, width, glyphs };
}

function answer(line) {
  try {
    return draw(JSON.parse(line));
  } catch (error) {
    return { error: error.message };
  }
}
for await (const line of createInterface({ input: process.stdin }))
  process.stdout.write(`${JSON.stringify(answer(line))}\n`);
