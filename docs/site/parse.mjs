// Reads {name: text} as JSON on standard input; writes one line for each text that Mermaid cannot read.
import { readFileSync } from "node:fs";
import { runInThisContext } from "node:vm";

// Mermaid's text cleaner asks for a browser when it is loaded. With this much of one it says that it cannot clean, and
// lets the text through, which is all that reading needs.
globalThis.window = { document: { nodeType: 9, createElement: () => ({}) }, Element: class {} };
runInThisContext(readFileSync(process.argv[2], "utf8"));

const texts = JSON.parse(readFileSync(0, "utf8"));
for (const [name, text] of Object.entries(texts)) {
  try {
    await globalThis.mermaid.parse(text);
  } catch (error) {
    process.stdout.write(`${name}: ${String(error.message).split("\n").slice(0, 3).join(" ")}\n`);
  }
}
