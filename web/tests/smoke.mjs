// SPDX-License-Identifier: Apache-2.0
// Two people chat in two browsers over a real Parley: `npm run build && npm run smoke`. Pictures go to tests/shots/.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

import { serve } from "../scripts/serve.mjs";

const REPOSITORY = fileURLToPath(new URL("../../", import.meta.url));
const PYTHON = process.env.PARLEY_PYTHON ?? join(REPOSITORY, ".venv/bin/python");
const SHOTS = fileURLToPath(new URL("./shots/", import.meta.url));
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const PASSWORD = "correct horse battery";
const DESKTOP = { width: 1280, height: 800 };

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];

const passed = [];
const problems = [];
const data = mkdtempSync(join(tmpdir(), "parley-smoke-"));
mkdirSync(SHOTS, { recursive: true });

async function freePort() {
  const probe = createServer();
  await new Promise((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const { port } = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

async function startParley() {
  const port = await freePort();
  const options = ["--server-name", "shop.test", "--data", data, "--port", String(port), "--open-registration", "--no-rate-limits"];
  execFileSync(PYTHON, ["-m", "homeserver", "init", ...options], { cwd: REPOSITORY, stdio: "ignore" });
  const child = spawn(PYTHON, ["-m", "homeserver", "run", "-c", join(data, "homeserver.yaml")], { cwd: REPOSITORY, stdio: "ignore" });
  const url = `http://127.0.0.1:${port}`;
  for (let tries = 0; tries < 150; tries += 1) {
    const up = await fetch(`${url}/health`).then((answer) => answer.ok, () => false);
    if (up) return { child, url };
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new Error("Parley did not start");
}

async function call(url, method, path, token, body) {
  const headers = { "Content-Type": "application/json", ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const answer = await fetch(`${url}/_matrix/client/v3${path}`, { method, headers, body: JSON.stringify(body) });
  assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${await answer.clone().text()}`);
  return answer.json();
}

async function register(url, username, displayname) {
  const account = await call(url, "POST", "/register", undefined, { username, password: PASSWORD, auth: { type: "m.login.dummy" } });
  await call(url, "PUT", `/profile/${encodeURIComponent(account.user_id)}/displayname`, account.access_token, { displayname });
  return account;
}

/** A browser of one's own: context, page, and an ear for everything that should not happen. */
async function person(browser, origin, options = {}) {
  const context = await browser.newContext({ viewport: DESKTOP, locale: "en-GB", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.on("pageerror", (error) => problems.push(`page error: ${error.message}`));
  page.on("console", (message) => {
    const text = message.text();
    if (message.type() === "error" && !/ERR_(EMPTY_RESPONSE|CONNECTION|INTERNET|SOCKET)|status of (403|404)/.test(text)) problems.push(`console: ${text}`);
  });
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(origin) && !url.startsWith("blob:")) problems.push(`request to another origin: ${url}`);
  });
  page.on("response", (answer) => {
    if (answer.status() >= 400 && !/\/(login|send|account_data)\b/.test(answer.url())) problems.push(`${answer.status()} ${answer.url()}`);
  });
  await page.goto(origin);
  return page;
}

async function signIn(page, name, password = PASSWORD) {
  await page.locator("input[name=username]").fill(name);
  await page.locator("input[name=password]").fill(password);
  await page.locator("button[type=submit]").click();
}

async function step(name, run) {
  await run();
  passed.push(name);
  console.log(`ok   ${name}`);
}

/** Accessibility by axe-core, in the theme that is on. */
async function audit(page, where) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate((values) => globalThis.axe.run({ runOnly: { type: "tag", values } }), RULES);
  const found = violations.flatMap((one) => one.nodes.map((node) => `${where}: ${one.id}: ${node.target.join(" ")}: ${node.failureSummary?.split("\n")[1]}`));
  assert.deepEqual(found, []);
}

const shot = (page, name) => page.screenshot({ path: join(SHOTS, `${name}.png`) });
const bubble = (page, text) => page.locator("article", { hasText: text });
const write = async (page, text) => {
  await page.locator("textarea").fill(text);
  await page.locator("textarea").press("Enter");
};

async function journey(parley, browser, origin, gate) {
  const jonas = await register(parley.url, "jonas", "Jonas Berg");
  const people = [["amelie", "Amélie Kowalski"], ["tomas", "Tomás Ortega"], ["lena", "Lena Wirth"], ["sofia", "Sofia Ferri"], ["idris", "Idris Rahman"]];
  const maya = await register(parley.url, "maya", "Maya Lindqvist");
  const lines = ["Is the road bike still there?", "Could you post a photo of the lens?", "The chairs arrived, thank you!", "Sold. Thank you both!", "Your order is on its way"];
  for (const [at, [name, displayname]] of people.entries()) {
    const other = await register(parley.url, name, displayname);
    const room = await call(parley.url, "POST", "/createRoom", other.access_token, { preset: "trusted_private_chat", is_direct: true, invite: [maya.user_id] });
    if (at !== 4) await call(parley.url, "POST", `/join/${encodeURIComponent(room.room_id)}`, maya.access_token, {});
    await call(parley.url, "PUT", `/rooms/${encodeURIComponent(room.room_id)}/send/m.room.message/t${at}`, other.access_token, { msgtype: "m.text", body: lines[at] });
  }
  const a = await person(browser, origin);
  const b = await person(browser, origin);

  await step("a wrong password is said in words", async () => {
    await shot(a, "sign-in");
    await audit(a, "sign-in");
    await signIn(a, "maya", "wrong password");
    await a.getByText("is not right").waitFor();
  });
  await step("two people sign in", async () => {
    await signIn(a, "maya");
    await signIn(b, "jonas");
    await a.getByRole("heading", { name: "Chats" }).waitFor();
    await a.getByText("Could you post a photo").waitFor();
    await b.getByText("Your conversations live here.").waitFor();
  });
  await step("one opens a conversation, the other accepts it", async () => {
    await a.getByRole("button", { name: "New conversation" }).click();
    await a.locator("input[name=user]").fill(jonas.user_id);
    await a.getByRole("button", { name: "Start chat" }).click();
    await a.locator("textarea").waitFor();
    await b.getByText("Wants to talk").click();
    await shot(b, "invite");
    await audit(b, "invite");
    await b.getByRole("button", { name: "Accept" }).click();
    await b.locator("textarea").waitFor();
  });
  await step("they chat both ways, live", async () => {
    await write(a, "Hi Jonas, is the brass lamp still available?");
    await bubble(b, "brass lamp").waitFor();
    await write(b, "Hi Maya, yes it is. I rewired it last year, so the switch is as good as new.");
    await write(b, "Pictures: https://example.org/lamp");
    await bubble(a, "rewired").waitFor();
    await write(a, "👍");
    await write(a, "Would you take 70 for it?\nI can pick it up tomorrow.");
    await bubble(b, "pick it up").waitFor();
  });
  await step("what was read is shown as read", async () => {
    await b.bringToFront();
    await bubble(a, "pick it up").getByText("Read by Jonas Berg").waitFor({ state: "attached" });
  });
  await step("an edit and a removal change what stands there", async () => {
    const roomId = decodeURIComponent(new URL(a.url()).hash.split("/")[2]);
    const path = `/rooms/${encodeURIComponent(roomId)}`;
    const sent = await call(parley.url, "PUT", `${path}/send/m.room.message/e1`, jonas.access_token, { msgtype: "m.text", body: "Tomorow is fine" });
    await bubble(a, "Tomorow is fine").waitFor();
    const edit = { msgtype: "m.text", body: "* Tomorrow is fine", "m.new_content": { msgtype: "m.text", body: "Tomorrow is fine" }, "m.relates_to": { rel_type: "m.replace", event_id: sent.event_id } };
    await call(parley.url, "PUT", `${path}/send/m.room.message/e2`, jonas.access_token, edit);
    await bubble(a, "Tomorrow is fine").getByText("edited").waitFor();
    const gone = await call(parley.url, "PUT", `${path}/send/m.room.message/e3`, jonas.access_token, { msgtype: "m.text", body: "wrong chat" });
    await bubble(a, "wrong chat").waitFor();
    await call(parley.url, "PUT", `${path}/redact/${encodeURIComponent(gone.event_id)}/e4`, jonas.access_token, {});
    await bubble(a, "Message removed").waitFor();
  });
  await step("cut off, messages wait; after a reload and with the network back they are sent once", async () => {
    gate.open = false;
    await write(a, "Sent from the tunnel");
    await bubble(a, "Sent from the tunnel").waitFor();
    await a.reload();
    await bubble(a, "Sent from the tunnel").waitFor();
    await a.getByText("We cannot reach Parley").waitFor();
    await shot(a, "offline");
    gate.open = true;
    await bubble(b, "Sent from the tunnel").waitFor();
    // The answer of the next one is lost on the way: it is sent again, and arrives once.
    let swallowed = 0;
    gate.swallow = (asked) => asked.method === "PUT" && asked.url.includes("/send/") && (swallowed += 1) === 1;
    await write(a, "Once only");
    await bubble(b, "Once only").waitFor();
    await bubble(a, "Once only").getByText(/^(Sent|Read by)/).first().waitFor({ state: "attached" });
    await a.waitForTimeout(2500);
    assert.equal(swallowed >= 1, true);
    assert.equal(await bubble(b, "Once only").count(), 1);
    assert.equal(await bubble(a, "Once only").count(), 1);
    assert.equal(await bubble(a, "Sent from the tunnel").count(), 1);
  });
  await step("a refused message stays, says so, and can be sent again", async () => {
    gate.refuse = (asked) => asked.url.includes("/send/");
    await write(b, "Not allowed just now");
    await b.getByRole("button", { name: "Try again" }).waitFor();
    await b.waitForTimeout(400);
    await shot(b, "failed");
    await audit(b, "failed message");
    gate.refuse = undefined;
    await b.getByRole("button", { name: "Try again" }).click();
    await bubble(a, "Not allowed just now").waitFor();
  });
  await step("history comes in above without moving what is read", async () => {
    const roomId = decodeURIComponent(new URL(a.url()).hash.split("/")[2]);
    await a.goto(`${origin}/#/`);
    for (let n = 1; n <= 150; n += 1) {
      const body = `Line ${n} of the long story${n % 4 ? "" : ", and this one is longer because it goes on for a while, so that rows differ in height"}`;
      await call(parley.url, "PUT", `/rooms/${encodeURIComponent(roomId)}/send/m.room.message/h${n}`, jonas.access_token, { msgtype: "m.text", body });
    }
    await a.bringToFront();
    await a.getByText("Line 150 of").waitFor();
    await shot(a, "unread");
    await a.getByRole("link", { name: /Jonas/ }).click();
    await bubble(a, "Line 150 of").waitFor();
    const log = a.getByRole("region", { name: "Messages" });
    let worst = 0;
    for (let tries = 0; tries < 80; tries += 1) {
      if (await bubble(a, "brass lamp").count()) break;
      const moved = await jump(log);
      worst = Math.max(worst, moved);
    }
    await bubble(a, "brass lamp").waitFor();
    await shot(a, "history");
    await a.getByRole("button", { name: "Jump to the newest message" }).click();
    await a.getByRole("link", { name: /Jonas/ }).getByText("unread").waitFor({ state: "detached" });
    console.log(`     worst movement of the row being read: ${worst.toFixed(1)} px`);
    assert.ok(worst < 30, `a row moved by ${worst} px`);
  });
  await step("search and filter narrow the list; drafts stay", async () => {
    await a.getByPlaceholder("Search people and chats").fill("amelie");
    await a.getByRole("link", { name: /Amélie/ }).waitFor();
    assert.equal(await a.getByRole("link", { name: /Jonas/ }).count(), 0);
    await a.getByPlaceholder("Search people and chats").fill("");
    await a.locator("textarea").fill("Let me think about");
    await a.getByRole("link", { name: /Amélie/ }).click();
    await a.getByText("Draft:").waitFor();
    await a.reload();
    await a.getByText("Draft:").waitFor();
    await a.getByRole("link", { name: /Jonas/ }).click();
    assert.equal(await a.locator("textarea").inputValue(), "Let me think about");
  });
  await step("it looks right at 1280, 768 and 360, light and dark, in German", () => looks(a));
  await step("a second tab follows the first", async () => {
    const second = await a.context().newPage();
    await second.goto(`${origin}/`);
    await second.getByRole("link", { name: /Jonas/ }).click();
    await write(b, "To both tabs");
    await bubble(second, "To both tabs").waitFor();
    await second.locator("textarea").fill("");
    await write(second, "From the second tab");
    await bubble(b, "From the second tab").waitFor();
    await second.close();
  });
  await step("signing out forgets everything", async () => {
    await a.getByRole("button", { name: "Optionen" }).click();
    await shot(a, "settings");
    await audit(a, "settings");
    await a.getByRole("button", { name: "Abmelden" }).click();
    await a.getByText("Willkommen zurück").waitFor();
    const left = await a.evaluate(() => new Promise((resolve) => {
      const open = indexedDB.open("parley");
      open.onsuccess = () => {
        const all = open.result.transaction("events").objectStore("events").count();
        all.onsuccess = () => resolve(all.result);
      };
    }));
    assert.equal(left, 0);
  });
}

/** Scrolls up by a little and says how far a row on the screen moved beyond that, once history has come in. */
function jump(log) {
  return log.evaluate(async (element) => {
    const frames = (n) => new Promise((resolve) => {
      const next = () => (n-- > 0 ? requestAnimationFrame(next) : resolve());
      next();
    });
    element.scrollTop -= 300;
    await frames(8);
    const middle = element.getBoundingClientRect().top + element.clientHeight / 2;
    const rows = [...element.querySelectorAll("article")];
    const row = rows.find((one) => one.getBoundingClientRect().bottom > middle);
    if (!row) return 0;
    const before = row.getBoundingClientRect().top;
    await new Promise((resolve) => setTimeout(resolve, 350));
    return row.isConnected ? Math.abs(row.getBoundingClientRect().top - before) : 0;
  });
}

async function looks(page) {
  await page.evaluate(() => document.activeElement.blur());
  for (const scheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: scheme });
    for (const [width, height] of [[1280, 800], [768, 900], [360, 740]]) {
      await page.setViewportSize({ width, height });
      await page.waitForTimeout(250);
      await shot(page, `chat-${width}-${scheme}`);
      const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(over <= 0, `the page is ${over} px too wide at ${width}`);
    }
    await page.getByRole("button", { name: "Back to chats" }).click();
    await page.waitForTimeout(250);
    await shot(page, `list-360-${scheme}`);
    await page.getByRole("link", { name: /Jonas/ }).click();
  }
  await page.setViewportSize(DESKTOP);
  await page.emulateMedia({ colorScheme: "light" });
  for (const theme of ["light", "dark", "contrast", "contrast-dark"]) {
    await page.evaluate((name) => (document.documentElement.dataset.theme = name), theme);
    await page.waitForTimeout(250);
    await shot(page, `chat-1280-theme-${theme}`);
    await audit(page, theme);
  }
  await page.evaluate(() => delete document.documentElement.dataset.theme);
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByLabel("Deutsch").click();
  await page.getByRole("heading", { name: "Einstellungen" }).waitFor();
  await page.getByRole("button", { name: "Schließen" }).click();
  await shot(page, "chat-1280-german");
}

const parley = await startParley();
const gate = { open: true };
const server = await serve(parley.url, gate);
const origin = `http://127.0.0.1:${server.address().port}`;
const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"],
});
let failure;
try {
  await journey(parley, browser, origin, gate);
  assert.deepEqual(problems, []);
} catch (error) {
  failure = error;
  for (const context of browser.contexts()) for (const [at, page] of context.pages().entries()) await shot(page, `failure-${browser.contexts().indexOf(context)}-${at}`).catch(() => undefined);
} finally {
  await browser.close();
  server.closeAllConnections();
  server.close();
  parley.child.kill("SIGTERM");
  await new Promise((resolve) => parley.child.once("exit", resolve));
  rmSync(data, { recursive: true, force: true });
}
if (problems.length > 0) console.log(problems.join("\n"));
console.log(`${passed.length} passed, ${failure ? 1 : 0} failed`);
if (failure) {
  console.error(failure);
  process.exit(1);
}
