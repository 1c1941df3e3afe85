// SPDX-License-Identifier: Apache-2.0
// What waits to be sent is sent in order, once, or says that it was not.
import { beforeEach, expect, test } from "vitest";

import { Api } from "./api";
import { drop, enqueue, retry, Sender } from "./outbox";
import * as store from "./store";
import { freshStore, ROOM } from "./testing";

let db: store.Database;
let seen: string[];
let waits: { ms: number; run: () => void }[];
beforeEach(async () => {
  db = await freshStore();
  seen = [];
  waits = [];
});

type Reply = () => Promise<Response>;
const ok = (id: string): Reply => async () => Response.json({ event_id: id });
const no = (status: number, body: object = {}): Reply => async () => Response.json({ errcode: "M_FORBIDDEN", error: "no", ...body }, { status });
const silence: Reply = async () => {
  throw new TypeError("network");
};

/** A server that gives these answers in turn and notes the transaction ids. */
function sender(...replies: Reply[]): Sender {
  const fetch = (url: string) => {
    seen.push(url.split("/").at(-1) ?? "");
    return (replies.shift() ?? silence)();
  };
  return new Sender(db, new Api("http://server", fetch, "token"), () => undefined, (ms, run) => waits.push({ ms, run }));
}

const add = (txnId: string, roomId = ROOM) => enqueue(db, { roomId, txnId, type: "m.room.message", content: { body: txnId }, createdAt: 0 });
const states = async () => (await store.outbox(db)).map((entry) => `${entry.txnId} ${entry.state}`);

test("messages of a room are sent in the order they were written", async () => {
  await add("a");
  await add("b");
  await sender(ok("$1"), ok("$2")).flush();
  expect(seen).toEqual(["a", "b"]);
  expect(await states()).toEqual(["a sent", "b sent"]);
});

test("two flushes at once send once", async () => {
  await add("a");
  const one = sender(ok("$1"), ok("$2"));
  await Promise.all([one.flush(), one.flush()]);
  expect(seen).toEqual(["a"]);
});

test("without an answer the same transaction id is used again, and nothing overtakes", async () => {
  await add("a");
  await add("b");
  const one = sender(silence, ok("$1"), ok("$2"));
  await one.flush();
  expect(await states()).toEqual(["a queued", "b queued"]);
  expect(waits.map((wait) => wait.ms)).toEqual([1000]);
  await one.flush();
  expect(seen).toEqual(["a", "a", "b"]);
});

test("the server says how long to wait", async () => {
  await add("a");
  await sender(no(429, { errcode: "M_LIMIT_EXCEEDED", retry_after_ms: 4200 })).flush();
  expect(waits.map((wait) => wait.ms)).toEqual([4200]);
  expect(await states()).toEqual(["a queued"]);
});

test("what is refused stays as failed, and the next is sent", async () => {
  await add("a");
  await add("b");
  await sender(no(403), ok("$2")).flush();
  expect(await states()).toEqual(["a failed", "b sent"]);
});

test("a failed message can be sent again or taken back", async () => {
  await add("a");
  await add("b");
  const one = sender(no(403), no(403), ok("$1"));
  await one.flush();
  const [a, b] = await store.outbox(db);
  await retry(db, a!.id!);
  expect(await drop(db, b!.id!)).toEqual({ body: "b" });
  await one.flush();
  expect(seen).toEqual(["a", "b", "a"]);
  expect(await states()).toEqual(["a sent"]);
});

test("what may be on its way cannot be taken back", async () => {
  await add("a");
  const [a] = await store.outbox(db);
  expect(await drop(db, a!.id!)).toBeUndefined();
  expect(await states()).toEqual(["a queued"]);
});

test("an ended session leaves messages waiting", async () => {
  await add("a");
  await sender(no(401, { errcode: "M_UNKNOWN_TOKEN" })).flush();
  expect(await states()).toEqual(["a queued"]);
});
