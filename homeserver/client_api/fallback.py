# SPDX-License-Identifier: Apache-2.0
"""The web pages for clients that cannot do a stage of authentication, or a login, themselves."""

from collections.abc import Mapping
from html import escape
from urllib.parse import parse_qsl

from homeserver.http.endpoint import Answer, Anyone, Call, endpoint
from homeserver.protocol.errors import MatrixError, missing_param, not_found
from homeserver.services.contacts import Contacts
from homeserver.services.uia import DUMMY, PASSWORD, REGISTRATION_TOKEN, InteractiveAuth

UIA_SPEC = "https://spec.matrix.org/v1.19/client-server-api/#fallback"
LOGIN_SPEC = "https://spec.matrix.org/v1.19/client-server-api/#login-fallback"
SSO_SPEC = "https://spec.matrix.org/v1.19/client-server-api/#sso-client-loginauthentication"
MAX_FORM = 10_000

HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline';"
    " connect-src 'self'; form-action 'self'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
STYLE = "body{font:16px system-ui;max-width:22em;margin:4em auto;padding:0 1em}input,button{font:inherit;display:block;"
STYLE += "width:100%;box-sizing:border-box;margin:.4em 0 1em;padding:.5em}"
FIELDS: Mapping[str, tuple[tuple[str, str, str], ...]] = {
    DUMMY: (),
    REGISTRATION_TOKEN: (("token", "Registration token", "text"),),
    PASSWORD: (("user", "User name", "text"), ("password", "Password", "password")),
}
# https://spec.matrix.org/v1.19/client-server-api/#fallback gives this script
DONE = """<p>Done. You can close this page.</p><script>
if (window.onAuthDone) { window.onAuthDone(); }
else if (window.opener && window.opener.postMessage) { window.opener.postMessage("authDone", "*"); }
</script>"""
LOGIN = """<form id="f"><label>User name<input name="user" autocomplete="username" required></label>
<label>Password<input name="password" type="password" autocomplete="current-password" required></label>
<p id="e" role="alert"></p><button>Sign in</button></form><script>
document.getElementById("f").addEventListener("submit", async function (event) {
  event.preventDefault();
  const form = new FormData(event.target), body = Object.fromEntries(new URLSearchParams(location.search));
  Object.assign(body, {type: "m.login.password", password: form.get("password"),
    identifier: {type: "m.id.user", user: form.get("user")}});
  if (body.refresh_token !== undefined) { body.refresh_token = body.refresh_token === "true"; }
  const answer = await fetch("/_matrix/client/v3/login", {method: "POST", body: JSON.stringify(body)});
  const said = await answer.json();
  if (!answer.ok) { document.getElementById("e").textContent = said.error; return; }
  if (window.matrixLogin && window.matrixLogin.onLogin) { window.matrixLogin.onLogin(said); }
  else { document.getElementById("e").textContent = "Signed in. You can close this page."; }
});
</script>"""


class Fallback:
    def __init__(self, uia: InteractiveAuth, contacts: Contacts) -> None:
        self._uia = uia
        self._contacts = contacts

    @endpoint("GET", "/_parley/email/confirm", spec=UIA_SPEC)
    async def ask_for_confirmation(self, caller: Anyone, call: Call) -> Answer:
        # Mail programs follow links to look at them, so the link itself confirms nothing.
        return Answer(200, _page("Confirm", '<form method="post"><button>Confirm</button></form>'), HEADERS)

    @endpoint("POST", "/_parley/email/confirm", limit="login", spec=UIA_SPEC)
    async def confirm(self, caller: Anyone, call: Call) -> Answer:
        try:
            link = await self._contacts.confirm(call.query.get("sid") or "", call.query.get("token") or "")
        except MatrixError as error:
            if error.status != 400:
                raise
            return Answer(400, _page("Confirm", f'<p role="alert">{escape(error.message)}</p>'), HEADERS)
        onward = "" if link is None else f'<p><a href="{escape(link)}">Continue</a></p>'
        return Answer(200, _page("Confirmed", f"<p>You can go back to your app.</p>{onward}"), HEADERS)

    @endpoint("GET", "/_matrix/client/v3/auth/{authType}/fallback/web", spec=UIA_SPEC)
    async def show_stage(self, caller: Anyone, call: Call) -> Answer:
        return _form(call, "")

    @endpoint("POST", "/_matrix/client/v3/auth/{authType}/fallback/web", limit="login", spec=UIA_SPEC)
    async def take_stage(self, caller: Anyone, call: Call, body: bytes) -> Answer:
        stage, session = call.params["authType"], _session(call)
        form = dict(parse_qsl(body[:MAX_FORM].decode("utf-8", "replace")))
        try:
            await self._uia.take_by_web(session, stage, form)
        except MatrixError as error:
            if error.status in (404, 429):
                raise
            return _form(call, error.message)
        return Answer(200, _page("Authentication", DONE), HEADERS)

    @endpoint("GET", "/_matrix/static/client/login/", spec=LOGIN_SPEC)
    async def login(self, caller: Anyone) -> Answer:
        return Answer(200, _page("Sign in", LOGIN), HEADERS)

    @endpoint("GET", "/_matrix/client/v3/login/sso/redirect", spec=SSO_SPEC)
    @endpoint("GET", "/_matrix/client/v3/login/sso/redirect/{idpId}", spec=SSO_SPEC)
    async def single_sign_on(self, caller: Anyone, call: Call) -> Answer:
        if call.query.get("redirectUrl") is None:
            raise missing_param("redirectUrl is missing")
        raise not_found("This server has no single sign-on")


def _session(call: Call) -> str:
    session = call.query.get("session")
    if session is None:
        raise missing_param("session is missing")
    return session


def _form(call: Call, complaint: str) -> Answer:
    """The form of a stage; it is sent to the address that it came from."""
    fields = FIELDS.get(call.params["authType"])
    if fields is None:
        raise not_found("There is no such stage")
    _session(call)
    inputs = "".join(
        f'<label>{label}<input name="{name}" type="{kind}" required></label>' for name, label, kind in fields
    )
    said = f'<p role="alert">{escape(complaint)}</p>' if complaint else ""
    return Answer(
        200, _page("Authentication", f'<form method="post">{said}{inputs}<button>Continue</button></form>'), HEADERS
    )


def _page(title: str, body: str) -> bytes:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{STYLE}</style><h1>{title}</h1>{body}</html>"
    ).encode()
