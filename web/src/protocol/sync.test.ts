// SPDX-License-Identifier: Apache-2.0
// The loop that keeps the device up to date, against answers that are written down.
import { expect, test } from "vitest";

import { Api } from "./api";
import * as store from "./store";
import { keepInSync, type Link } from "./sync";
import { freshStore, ME, message, ROOM } from "./testing";

type Script = (url: URL, body: { lists: { all: { ranges: number[][] } } }) => Response | Error;

async function run(db: store.Database, ...script: Script[]): Promise<{ links: Link[]; pauses: number[]; out: boolean }> {
  const end = new AbortController();
  const links: Link[] = [];
  const pauses: number[] = [];
  let out = false;
  const fetch = async (url: string, init: RequestInit) => {
    const next = script.shift();
    if (!next) {
      end.abort();
      throw new DOMException("over", "AbortError");
    }
    const reply = next(new URL(url), JSON.parse(String(init.body)));
    if (reply instanceof Error) throw reply;
    return reply;
  };
  const events = { news: () => undefined, link: (link: Link) => void links.push(link), signedOut: () => void (out = true) };
  const pause = async (ms: number) => void pauses.push(ms);
  await keepInSync(db, new Api("http://server", fetch, "token"), ME, events, pause, end.signal);
  return { links, pauses, out };
}

const full = (pos: string, count = 1): Response =>
  Response.json({ pos, lists: { all: { count } }, rooms: { [ROOM]: { initial: true, timeline: [message("$1", "one")] } } });

test("the position of one answer is asked with next, and survives", async () => {
  const db = await freshStore();
  const asked: (string | null)[] = [];
  await run(db, (url) => (asked.push(url.searchParams.get("pos")), full("p1")), (url) => (asked.push(url.searchParams.get("pos")), full("p2")));
  expect(asked).toEqual([null, "p1"]);
  expect(await store.position(db)).toBe("p2");
});

test("the window grows until it holds every room, and only then the server may wait", async () => {
  const db = await freshStore();
  const asked: string[] = [];
  const note: Script = (url, body) => {
    asked.push(`${body.lists.all.ranges[0]?.[1]} ${url.searchParams.get("timeout")}`);
    return full(`p${asked.length}`, 300);
  };
  await run(db, note, note, note, note);
  expect(asked).toEqual(["19 0", "219 0", "299 0", "299 30000"]);
});

test("a position that the server lost is forgotten, not the events", async () => {
  const db = await freshStore();
  const asked: (string | null)[] = [];
  await run(
    db,
    () => full("p1"),
    () => Response.json({ errcode: "M_UNKNOWN_POS", error: "" }, { status: 400 }),
    (url) => (asked.push(url.searchParams.get("pos")), full("q1")),
  );
  expect(asked).toEqual([null]);
  expect(await store.eventsFrom(db, ROOM, -Infinity)).toHaveLength(1);
});

test("without an answer it pauses, longer each time, and says so", async () => {
  const { links, pauses } = await run(await freshStore(), () => new TypeError("network"), () => new TypeError("network"), () => full("p1"));
  expect(pauses).toEqual([1000, 2000]);
  expect(links).toEqual(["connecting", "away", "away", "live"]);
});

test("a token that the server does not know ends it", async () => {
  const { out } = await run(await freshStore(), () => Response.json({ errcode: "M_UNKNOWN_TOKEN", error: "" }, { status: 401 }));
  expect(out).toBe(true);
});
