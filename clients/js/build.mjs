// Builds dist/: the modules with their types (tsc), and one minified file for pages without a build step (esbuild).
import { spawnSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { build } from "esbuild";

/** Members that only modules of this package use, and that are no member of anything on the wire. */
const INTERNAL = [
  "acked", "acknowledged", "answered", "bearer", "connection", "expire", "gone", "leave", "publisher", "report", "urls", "wake",
  "acksChanged", "nextAck", "ackDue", "sendAcks", "askId", "asking", "askRefused", "caughtUp", "isHalfFree", "finish", "heard", "told", "pauseMs", "handed", "isRefused", "judge",
  "needsWebSocket", "newId", "newSession", "ofRequest", "ofStream", "onClosed", "onFrame", "onLost", "onReady", "onState",
  "ownId", "jitter", "passes", "queued", "ready", "refreshable", "renewable", "reset", "retried", "sendSpare", "silent", "untold",
  "gap", "missing", "onError", "request", "take",
];
/** Writes the numbers of a module in place of the names of its constants: esbuild does so only where a module imports nothing. */
const inlinedNumbers = {
  name: "inlined numbers",
  setup: ({ onLoad }) =>
    onLoad({ filter: /dist.\w+\.js$/ }, ({ path }) => {
      let contents = readFileSync(path, "utf8");
      for (const [line, name, number] of contents.matchAll(/^const ([A-Z_]+) = ([\d_]+);/gm)) {
        contents = contents.replace(line, "").replaceAll(new RegExp(`\\b${name}\\b`, "g"), number);
      }
      return { contents };
    }),
};
const packageOfTsc = createRequire(import.meta.url).resolve("typescript/package.json");
rmSync("dist", { recursive: true, force: true });
const checked = spawnSync(process.execPath, [join(dirname(packageOfTsc), "bin", "tsc"), "-p", "."], { stdio: "inherit" });
if (checked.status) process.exit(checked.status);
await build({
  entryPoints: ["dist/index.js"],
  outfile: "dist/headgate-client.min.js",
  bundle: true,
  minify: true,
  mangleProps: new RegExp(`^(_.*|${INTERNAL.join("|")})$`), // no member of the wire begins with an underscore
  plugins: [inlinedNumbers],
  format: "esm",
  target: "es2022",
});
