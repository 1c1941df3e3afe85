// SPDX-License-Identifier: Apache-2.0
// What the device remembers of the server's answers.
import { beforeEach, expect, test } from "vitest";

import { applyAnswer, applyHistory } from "./apply";
import { enqueue } from "./outbox";
import * as store from "./store";
import { answer, freshStore, JONAS, ME, message, ROOM } from "./testing";

let db: store.Database;
beforeEach(async () => {
  db = await freshStore();
});

const kept = async () => (await store.eventsFrom(db, ROOM, -Infinity)).map((one) => one.eventId);
const room = async () => (await store.room(db, ROOM))!;

test("the first answer of a room is its newest run of events", async () => {
  const timeline = [message("$1", "one"), message("$2", "two")];
  await applyAnswer(db, answer({ [ROOM]: { initial: true, limited: true, timeline, prev_batch: "t1", name: "Lamp", notification_count: 2 } }), ME);
  expect(await kept()).toEqual(["$1", "$2"]);
  expect(await room()).toMatchObject({ name: "Lamp", unread: 2, membership: "join", segments: [{ start: 0, token: "t1" }] });
  expect((await room()).last?.eventId).toBe("$2");
  expect(await store.position(db)).toBe("1");
});

test("an event that comes again is kept once", async () => {
  await applyAnswer(db, answer({ [ROOM]: { initial: true, timeline: [message("$1", "one")] } }), ME);
  await applyAnswer(db, answer({ [ROOM]: { initial: true, limited: true, timeline: [message("$1", "one"), message("$2", "two")] } }), ME);
  expect(await kept()).toEqual(["$1", "$2"]);
  expect((await room()).segments).toHaveLength(1);
});

test("a hole begins a new run, and history closes it", async () => {
  await applyAnswer(db, answer({ [ROOM]: { initial: true, timeline: [message("$1", "one"), message("$2", "two")], prev_batch: "t0" } }), ME);
  await applyAnswer(db, answer({ [ROOM]: { limited: true, timeline: [message("$5", "five")], prev_batch: "t5" } }), ME);
  expect((await room()).segments).toHaveLength(2);
  await applyHistory(db, ROOM, "t5", { chunk: [message("$4", "four"), message("$3", "three"), message("$2", "two")], end: "t2" });
  expect(await kept()).toEqual(["$1", "$2", "$3", "$4", "$5"]);
  expect((await room()).segments).toEqual([{ start: 0, token: "t0" }]);
});

test("history goes before what is there, and says when it is at the start", async () => {
  await applyAnswer(db, answer({ [ROOM]: { initial: true, limited: true, timeline: [message("$3", "three")], prev_batch: "t3" } }), ME);
  await applyHistory(db, ROOM, "t3", { chunk: [message("$2", "two"), message("$1", "one")] });
  expect(await kept()).toEqual(["$1", "$2", "$3"]);
  expect((await room()).segments).toEqual([{ start: -2, token: null }]);
});

test("a page of history that another tab has fetched already changes nothing", async () => {
  await applyAnswer(db, answer({ [ROOM]: { initial: true, limited: true, timeline: [message("$3", "three")], prev_batch: "t3" } }), ME);
  const page = { chunk: [message("$2", "two")], end: "t2" };
  await applyHistory(db, ROOM, "t3", page);
  await applyHistory(db, ROOM, "t3", page);
  expect(await kept()).toEqual(["$2", "$3"]);
});

test("only the author's edits count", async () => {
  const edit = (body: string) => ({ msgtype: "m.text", body, "m.new_content": { msgtype: "m.text", body }, "m.relates_to": { rel_type: "m.replace", event_id: "$1" } });
  const timeline = [message("$1", "lmap"), message("$2", "", { content: edit("lamp") }), message("$3", "", { content: edit("stolen"), sender: "@eve:shop.test" })];
  await applyAnswer(db, answer({ [ROOM]: { initial: true, timeline } }), ME);
  const [first] = await store.eventsFrom(db, ROOM, -Infinity);
  expect(first?.edited?.["body"]).toBe("lamp");
  expect((await room()).last).toMatchObject({ eventId: "$1", edited: { body: "lamp" } });
});

test("a removed message keeps nothing of what it said, also not its edit", async () => {
  const removal = message("$2", "", { type: "m.room.redaction", content: { redacts: "$1" } });
  await applyAnswer(db, answer({ [ROOM]: { initial: true, timeline: [message("$1", "secret"), removal] } }), ME);
  const [first] = await store.eventsFrom(db, ROOM, -Infinity);
  expect(first).toMatchObject({ redacted: true, event: { content: {} } });
  expect(JSON.stringify(await room())).not.toContain("secret");
});

test("the arrival of a message takes it out of the outbox", async () => {
  await enqueue(db, { roomId: ROOM, txnId: "t-1", type: "m.room.message", content: {}, createdAt: 0 });
  await enqueue(db, { roomId: ROOM, txnId: "t-2", type: "m.room.message", content: {}, createdAt: 0 });
  const arrived = message("$1", "hi", { sender: ME, unsigned: { transaction_id: "t-1" } });
  await applyAnswer(db, answer({ [ROOM]: { initial: true, timeline: [arrived] } }), ME);
  expect((await store.outbox(db)).map((entry) => entry.txnId)).toEqual(["t-2"]);
});

test("a receipt of one's own without a count says what is left unread", async () => {
  const timeline = [message("$1", "one"), message("$2", "two"), message("$3", "three")];
  await applyAnswer(db, answer({ [ROOM]: { initial: true, timeline, notification_count: 3 } }), ME);
  const read = (id: string) => ({ extensions: { receipts: { rooms: { [ROOM]: { content: { [id]: { "m.read": { [ME]: { ts: 1 } } } } } } } } });
  await applyAnswer(db, answer({}, read("$2")), ME);
  expect((await room()).unread).toBe(1);
  await applyAnswer(db, answer({}, read("$3")), ME);
  expect((await room()).unread).toBe(0);
});

test("a receipt does not go back", async () => {
  await applyAnswer(db, answer({ [ROOM]: { initial: true, timeline: [message("$1", "one"), message("$2", "two")] } }), ME);
  const read = (id: string) => ({ extensions: { receipts: { rooms: { [ROOM]: { content: { [id]: { "m.read": { [JONAS]: { ts: 1 } } } } } } } } });
  await applyAnswer(db, answer({}, read("$2")), ME);
  await applyAnswer(db, answer({}, read("$1")), ME);
  expect((await room()).receipts[JONAS]?.eventId).toBe("$2");
});

test("an invitation knows who invites", async () => {
  const invite_state = [
    { type: "m.room.member", state_key: ME, sender: JONAS, content: { membership: "invite", is_direct: true } },
    { type: "m.room.member", state_key: JONAS, sender: JONAS, content: { membership: "join", displayname: "Jonas Berg" } },
  ];
  await applyAnswer(db, answer({ [ROOM]: { initial: true, membership: "invite", invite_state } }), ME);
  expect(await room()).toMatchObject({ membership: "invite", inviter: JONAS, isDirect: true, heroes: [{ displayname: "Jonas Berg" }] });
});

test("an answer that cannot be written changes nothing", async () => {
  const broken = { ...message("$1", "one"), event_id: undefined as unknown as string, origin_server_ts: (() => 1) as unknown as number };
  await expect(applyAnswer(db, answer({ [ROOM]: { initial: true, timeline: [broken] } }), ME)).rejects.toThrow();
  expect(await store.rooms(db)).toEqual([]);
  expect(await store.position(db)).toBeUndefined();
});
