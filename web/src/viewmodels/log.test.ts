// SPDX-License-Identifier: Apache-2.0
// How a conversation's log reads.
import { expect, test } from "vitest";

import { de } from "../i18n/de";
import { en } from "../i18n/en";
import { locale } from "../i18n/locale";
import type { OutboxEntry, RoomRecord, StoredEvent } from "../protocol/records";
import { JONAS, ME, message, ROOM } from "../protocol/testing";
import type { MatrixEvent } from "../protocol/types";
import { buildLog, type Bubble, type Item, type Sources } from "./log";

const NOW = new Date("2026-03-10T18:00:00").getTime();
const MINUTE = 60_000;
const room: RoomRecord = {
  roomId: ROOM, membership: "join", heroes: [], isDirect: true, encrypted: false, space: false,
  joined: 2, unread: 0, highlights: 0, bump: 0, end: 0, segments: [], receipts: {},
};
const members = new Map([
  [ME, { roomId: ROOM, userId: ME, name: "Maya" }],
  [JONAS, { roomId: ROOM, userId: JONAS, name: "Jonas Berg" }],
]);

function stored(events: readonly MatrixEvent[]): StoredEvent[] {
  return events.map((event, order) => ({ roomId: ROOM, order, eventId: event.event_id, event }));
}

function log(events: readonly MatrixEvent[], more: Partial<Sources> = {}): readonly Item[] {
  return buildLog({ me: ME, room, events: stored(events), outbox: [], members, locale: locale("en", en), now: NOW, online: true, whole: false, ...more });
}

const at = (ms: number) => ({ origin_server_ts: NOW - ms });
const said = (items: readonly Item[]) => items.map((item) => ("text" in item ? item.text : item.kind));
const bubbles = (items: readonly Item[]) => items.filter((item): item is Bubble => item.kind === "bubble");
const waiting = (state: OutboxEntry["state"]): OutboxEntry => ({ id: 1, roomId: ROOM, txnId: "t", type: "m.room.message", content: { msgtype: "m.text", body: "soon" }, createdAt: NOW, state });

test("days are parted", () => {
  const day = 24 * 60 * MINUTE;
  const items = log([message("$1", "old", at(8 * day)), message("$2", "then", at(day)), message("$3", "now", at(MINUTE))]);
  expect(said(items).slice(1)).toEqual(["old", "Yesterday", "then", "Today", "now"]);
  expect(said(items)[0]).toMatch(/Monday.*2/);
});

test("bubbles of one person within five minutes stand together", () => {
  const items = bubbles(log([message("$1", "a", at(9 * MINUTE)), message("$2", "b", at(8 * MINUTE)), message("$3", "c", { ...at(7 * MINUTE), sender: ME }), message("$4", "d", at(MINUTE))]));
  expect(items.map((item) => [item.first, item.last])).toEqual([[true, false], [false, true], [true, true], [true, true]]);
});

test("system messages are sentences, in the language spoken", () => {
  const change = (more: Partial<MatrixEvent>) => message("$s", "", { content: {}, state_key: "", ...more });
  const events = [
    change({ event_id: "$0", type: "m.room.create", sender: JONAS }),
    change({ event_id: "$1", type: "m.room.member", state_key: JONAS, content: { membership: "join", displayname: "Jonas Berg" } }),
    change({ event_id: "$2", type: "m.room.member", state_key: ME, content: { membership: "invite", displayname: "Maya" } }),
    change({ event_id: "$3", type: "m.room.name", content: { name: "Lamp" } }),
    change({ event_id: "$4", type: "m.room.power_levels" }),
    change({ event_id: "$5", type: "m.room.member", state_key: ME, sender: ME, content: { membership: "leave" }, unsigned: { prev_content: { membership: "invite" } } }),
  ];
  expect(said(log(events)).slice(1)).toEqual(["Jonas Berg started the conversation", "Jonas Berg invited Maya", "Jonas Berg named this chat “Lamp”", "Maya declined the invitation"]);
  expect(said(log(events, { locale: locale("de", de) }))[2]).toBe("Jonas Berg hat Maya eingeladen");
});

test("an own message is sent, then read", () => {
  const mine = [message("$1", "hi", { sender: ME })];
  expect(bubbles(log(mine))[0]?.status).toBe("sent");
  const read = { ...room, receipts: { [JONAS]: { eventId: "$1", ts: 1, order: 0 } } };
  expect(bubbles(log(mine, { room: read }))[0]).toMatchObject({ status: "read", readers: ["Jonas Berg"] });
});

test("what waits stands last and says why", () => {
  expect(bubbles(log([], { outbox: [waiting("queued")] }))[0]?.status).toBe("sending");
  expect(bubbles(log([], { outbox: [waiting("queued")], online: false }))[0]?.status).toBe("queued");
  expect(bubbles(log([], { outbox: [waiting("failed")] }))[0]?.status).toBe("failed");
});

test("a bubble keeps its key when its message arrives", () => {
  const before = bubbles(log([], { outbox: [waiting("sent")] }))[0]?.key;
  const after = bubbles(log([message("$1", "soon", { sender: ME, unsigned: { transaction_id: "t" } })]))[0]?.key;
  expect(after).toBe(before);
});

test("the line of new messages stands before the first unread of somebody else", () => {
  const events = [message("$1", "a"), message("$2", "b", { sender: ME }), message("$3", "c")];
  expect(said(log(events, { readUpTo: 0 })).slice(1)).toEqual(["a", "b", "new", "c"]);
  expect(said(log(events, { readUpTo: 2 }))).not.toContain("new");
});

test("a quoted fallback, an emoji, a file and what is closed", () => {
  const reply = { msgtype: "m.text", body: "> <@a:b> question\n\nanswer", "m.relates_to": { "m.in_reply_to": { event_id: "$0" } } };
  const items = bubbles(log([message("$1", "", { content: reply }), message("$2", "👍🏽 🎉"), message("$3", "", { content: { msgtype: "m.file", body: "bill.pdf" } }), message("$4", "", { type: "m.room.encrypted", content: {} }), message("$5", "> quoted on purpose\nyes")]));
  expect(items.map((item) => item.text)).toEqual(["answer", "👍🏽 🎉", "File: bill.pdf", en.message.unreadable, "> quoted on purpose\nyes"]);
  expect(items[1]?.tone).toBe("emoji");
});
