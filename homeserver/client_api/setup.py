# SPDX-License-Identifier: Apache-2.0
"""The page behind the one-time link that makes the first administrator, and what commands on this machine may ask."""

import base64
import hashlib
import html

import msgspec

from homeserver.client_api.landing import HEADERS, STYLE
from homeserver.http.endpoint import Answer, Anyone, endpoint
from homeserver.services.registration import NewUser, Registrar

SCRIPT = """
const form = document.querySelector("form"), out = document.querySelector("output");
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  form.querySelector("button").disabled = true;
  out.textContent = "";
  const body = { token: location.hash.slice(1), username: form.username.value, password: form.password.value };
  try {
    const answer = await fetch("/_parley/setup", { method: "POST", body: JSON.stringify(body) });
    const said = await answer.json();
    if (answer.ok) {
      form.hidden = true;
      out.textContent = "The account " + said.user_id + " is made. Sign in with any Matrix app.";
      return;
    }
    out.textContent = said.error;
  } catch (error) { out.textContent = "The server did not answer. Try again."; }
  form.querySelector("button").disabled = false;
});
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Set up {name} · Parley</title>
<style>{style}
form {{ display: grid; gap: 1rem; margin: 2rem 0 }}
label {{ display: grid; gap: .25rem }}
input, button {{ font: inherit; padding: .625rem .75rem; border-radius: .5rem; border: 1px solid var(--line) }}
input {{ background: var(--paper); color: var(--ink) }}
button {{ background: var(--accent); color: var(--paper); border: 0; cursor: pointer }}
button:disabled {{ opacity: .6 }}
:focus-visible {{ outline: 2px solid var(--accent); outline-offset: 2px }}
</style>
</head>
<body>
<main>
<h1>Set up {name}</h1>
<p class="lead">Make the first account. It can administer this server. The link works once.</p>
<form>
<label>User name <input name="username" required autocomplete="username" autocapitalize="none" spellcheck="false"
 pattern="[a-z0-9._=\\-\\/+]+" title="a-z, 0-9 and . _ = - / +"></label>
<label>Password <input name="password" type="password" required minlength="8" autocomplete="new-password"></label>
<button>Make the account</button>
</form>
<output role="status"></output>
<noscript><p>This page needs JavaScript. Or run <code>parley register --user NAME --admin</code></p></noscript>
</main>
<script>{script}</script>
</body>
</html>
"""


class SetupBody(msgspec.Struct):
    token: str
    username: str
    password: str


class AccountBody(msgspec.Struct):
    username: str
    password: str
    admin: bool = False


class Setup:
    """The page of the one-time link; the token is in the fragment, which browsers do not send."""

    def __init__(self, server_name: str, registrar: Registrar) -> None:
        self._registrar = registrar
        self._page = PAGE.format(name=html.escape(server_name), style=STYLE, script=SCRIPT).encode()
        digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
        allowed = f"; script-src 'sha256-{digest}'; connect-src 'self'; form-action 'none'; base-uri 'none'"
        policy = HEADERS["Content-Security-Policy"] + allowed
        self._headers = {**HEADERS, "Content-Security-Policy": policy}

    @endpoint("GET", "/_parley/setup")
    async def page(self, caller: Anyone) -> Answer:
        return Answer(200, self._page, self._headers)

    @endpoint("POST", "/_parley/setup", limit="login")
    async def set_up(self, caller: Anyone, body: SetupBody) -> dict[str, object]:
        return {"user_id": await self._registrar.set_up(body.token, body.username, body.password)}


class LocalCommands:
    """What `parley register` and `parley setup-link` ask a running server, over a socket only its user can open."""

    def __init__(self, base_url: str, registrar: Registrar) -> None:
        self._base_url = base_url
        self._registrar = registrar

    @endpoint("POST", "/_parley/local/register")
    async def register(self, caller: Anyone, body: AccountBody) -> dict[str, object]:
        return {"user_id": await self._registrar.make_account(NewUser(body.username, body.password, body.admin))}

    @endpoint("POST", "/_parley/local/setup-link")
    async def setup_link(self, caller: Anyone) -> dict[str, object]:
        return {"link": f"{self._base_url}/_parley/setup#{await self._registrar.setup_token()}"}
