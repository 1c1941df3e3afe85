// SPDX-License-Identifier: Apache-2.0
// Serves the build as the homeserver will: same origin, strict policy, compressed files. For tests and for trying it out:
//   node scripts/serve.mjs PORT HOMESERVER      (node scripts/serve.mjs 8080 http://127.0.0.1:8008)
import { createReadStream, existsSync, statSync } from "node:fs";
import { createServer, request } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../dist/", import.meta.url));
export const POLICY = [
  "default-src 'none'", "script-src 'self' 'wasm-unsafe-eval'", "style-src 'self'", "img-src 'self' blob: data:",
  "media-src 'self' blob:", "font-src 'self'", "connect-src 'self'", "worker-src 'self'", "manifest-src 'self'",
  "base-uri 'none'", "form-action 'self'", "frame-ancestors 'none'", "object-src 'none'",
  "require-trusted-types-for 'script'", "trusted-types 'none'",
].join("; ");
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".woff2": "font/woff2" };

function file(asked, answer) {
  const path = decodeURIComponent(new URL(asked.url, "http://x").pathname);
  const name = join(ROOT, normalize(path === "/" ? "/index.html" : path));
  if (!name.startsWith(ROOT) || !existsSync(name) || !statSync(name).isFile()) return answer.writeHead(404).end();
  const packed = /\bbr\b/.test(asked.headers["accept-encoding"] ?? "") && existsSync(`${name}.br`);
  answer.writeHead(200, {
    "Content-Type": TYPES[extname(name)] ?? "application/octet-stream",
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": path.startsWith("/assets/") ? "public, max-age=31536000, immutable" : "no-cache",
    ...(packed ? { "Content-Encoding": "br", Vary: "Accept-Encoding" } : {}),
  });
  createReadStream(packed ? `${name}.br` : name).pipe(answer);
}

/** `gate.open` false cuts the way to the homeserver, as a lost network does; `swallow` loses answers, `refuse` says no. */
export function serve(homeserver, gate = { open: true }) {
  const server = createServer((asked, answer) => {
    if (!asked.url.startsWith("/_matrix/")) return file(asked, answer);
    if (!gate.open) return asked.socket.destroy();
    if (gate.refuse?.(asked)) return answer.writeHead(403, { "Content-Type": "application/json" }).end('{"errcode":"M_FORBIDDEN","error":"no"}');
    const on = request(new URL(asked.url, homeserver), { method: asked.method, headers: asked.headers }, (reply) => {
      if (gate.swallow?.(asked)) return asked.socket.destroy();
      answer.writeHead(reply.statusCode, reply.headers);
      reply.pipe(answer);
    });
    on.on("error", () => asked.socket.destroy());
    answer.on("close", () => on.destroy());
    asked.pipe(on);
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [port, homeserver] = process.argv.slice(2);
  const server = await serve(homeserver ?? "http://127.0.0.1:8008");
  server.close();
  server.listen(Number(port ?? 8080), "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/`));
}
