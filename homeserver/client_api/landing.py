# SPDX-License-Identifier: Apache-2.0
"""The page that says what this server is and how to connect a client."""

import html

from homeserver.http.endpoint import Answer, Anyone, endpoint

HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

STYLE = """
:root { color-scheme: light dark; --ink: #16202c; --soft: #5a6675; --paper: #fff; --line: #dfe4ea; --accent: #0b6e4f }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8edf2; --soft: #9aa7b5; --paper: #11161c; --line: #2a333d; --accent: #4fc79b } }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
main { max-width: 40rem; margin: 0 auto; padding: 4rem 1.25rem }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 .5rem }
h2 { font-size: 1.125rem; margin: 2.5rem 0 .5rem }
p.lead { color: var(--soft); margin: 0 }
code { font: .9375rem ui-monospace, SFMono-Regular, Menlo, monospace; overflow-wrap: anywhere }
dl { border: 1px solid var(--line); border-radius: .5rem; padding: 1rem 1.25rem; margin: 1rem 0 }
dt { color: var(--soft); font-size: .875rem } dd { margin: 0 0 .75rem } dd:last-child { margin: 0 }
a { color: var(--accent) } li { margin: .25rem 0 }
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name} · Parley</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{name}</h1>
<p class="lead">This is a chat server. It runs Parley and speaks Matrix, so any Matrix app can use it.</p>
<h2>Connect an app</h2>
<ol>
<li>Open a Matrix app, such as Element, Cinny or FluffyChat.</li>
<li>Choose to sign in, and change the homeserver to the address below.</li>
<li>Sign in, or create an account if this server lets you.</li>
</ol>
<dl>
<dt>Homeserver</dt><dd><code>{base_url}</code></dd>
<dt>User names look like</dt><dd><code>@alice:{name}</code></dd>
</dl>
<p>The server is well when <a href="/health">/health</a> says so.</p>
</main>
</body>
</html>
"""


class Landing:
    """The page at `/`, until a web client takes its place."""

    def __init__(self, server_name: str, base_url: str) -> None:
        name, url = html.escape(server_name), html.escape(base_url)
        self._page = PAGE.format(name=name, base_url=url, style=STYLE).encode()

    @endpoint("GET", "/")
    async def page(self, caller: Anyone) -> Answer:
        return Answer(200, self._page, HEADERS)
