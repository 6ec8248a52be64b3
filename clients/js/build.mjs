// Builds dist/: the modules with their types (tsc), and one minified file for pages without a build step (esbuild).
import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { build } from "esbuild";

const packageOfTsc = createRequire(import.meta.url).resolve("typescript/package.json");
rmSync("dist", { recursive: true, force: true });
const checked = spawnSync(process.execPath, [join(dirname(packageOfTsc), "bin", "tsc"), "-p", "."], { stdio: "inherit" });
if (checked.status) process.exit(checked.status);
await build({
  entryPoints: ["dist/index.js"],
  outfile: "dist/headgate-client.min.js",
  bundle: true,
  minify: true,
  mangleProps: /^_/, // private members; no member of the wire begins so
  format: "esm",
  target: "es2022",
});
