// SPDX-License-Identifier: Apache-2.0
// Writes a .br and a .gz beside every text file of the build, and says what the first visit weighs.
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const ROOT = new URL("../dist/", import.meta.url).pathname;
const BUDGET = 150_000;
const sizes = new Map();

for (const name of readdirSync(ROOT, { recursive: true })) {
  const file = join(ROOT, name);
  if (!statSync(file).isFile() || !/\.(js|css|html|svg|json|wasm)$/.test(name)) continue;
  const body = readFileSync(file);
  const br = brotliCompressSync(body, { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } });
  const gz = gzipSync(body, { level: 9 });
  writeFileSync(`${file}.br`, br);
  writeFileSync(`${file}.gz`, gz);
  sizes.set(name, { br: br.length, gz: gz.length });
}

const html = readFileSync(join(ROOT, "index.html"), "utf8");
const first = ["index.html", ...[...html.matchAll(/(?:src|href)="\.\/([^"]+)"/g)].map((found) => found[1])];
const sum = (kind) => first.reduce((total, name) => total + (sizes.get(name)?.[kind] ?? 0), 0);
console.log(`first visit: ${first.join(", ")}: ${sum("gz")} bytes gzip, ${sum("br")} bytes brotli`);
if (sum("gz") > BUDGET) {
  console.error(`that is over the budget of ${BUDGET} bytes`);
  process.exit(1);
}
