// Runs the code of a documentation page as a bundler and a browser would. Argument: the file (.js or .jsx).
// What the code logs goes to standard output; with .jsx also the text of the page, each time it has changed.
import { writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";
import WebSocket from "ws";

const file = process.argv[2];
const home = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const done = await build({
  entryPoints: [file],
  bundle: true,
  write: false,
  format: "esm",
  platform: "browser",
  jsx: "automatic",
  loader: { ".js": "jsx" },
  nodePaths: [join(home, "node_modules")],
  alias: { "headgate-client": join(home, "dist", "index.js") },
  define: { "process.env.NODE_ENV": '"production"' },
});
globalThis.WebSocket ??= WebSocket;
if (file.endsWith(".jsx")) {
  const { Window } = await import("happy-dom");
  const window = new Window({ url: "http://127.0.0.1" });
  window.document.body.innerHTML = '<div id="root"></div>';
  Object.assign(globalThis, { window, document: window.document });
  for (const name of ["HTMLElement", "HTMLIFrameElement", "Node", "Event"]) globalThis[name] ??= window[name];
  let shown = "";
  setInterval(() => {
    const text = window.document.body.textContent;
    if (text !== shown) console.log(`page: ${(shown = text)}`);
  }, 50);
}
const bundle = `${file}.bundle.mjs`;
writeFileSync(bundle, done.outputFiles[0].contents);
await import(pathToFileURL(bundle).href);
