// SPDX-License-Identifier: Apache-2.0
// Knows how one answer of the server becomes, in one transaction, what the device remembers.
import type { IDBPTransaction } from "idb";

import type { MemberRecord, Receipt, RoomRecord, Schema, Segment, StoredEvent } from "./records";
import type { Database } from "./store";
import { object, text, type MatrixEvent, type MessagesPage, type ReceiptContent, type RoomResult, type SlidingAnswer } from "./types";

const STORES = ["meta", "rooms", "events", "members", "outbox"] as const;
type Txn = IDBPTransaction<Schema, typeof STORES, "readwrite">;
type Draft<T> = { -readonly [K in keyof T]: T[K] };

/** What a hole between two segments leaves free for the events that are fetched into it. */
const ROOM_FOR_A_HOLE = 1_000_000;
/** Receipts of more people than this are not kept: nobody reads the names of a thousand readers. */
const READERS_KEPT = 200;

/** Writes an answer of sliding sync; returns the rooms that look different now. */
export async function applyAnswer(db: Database, answer: SlidingAnswer, me: string): Promise<Set<string>> {
  const txn: Txn = db.transaction(STORES, "readwrite");
  const changed = new Set<string>();
  try {
    for (const [roomId, result] of Object.entries(answer.rooms ?? {})) {
      await applyRoom(txn, roomId, result);
      changed.add(roomId);
    }
    for (const [roomId, receipts] of Object.entries(answer.extensions?.receipts?.rooms ?? {})) {
      const counted = answer.rooms?.[roomId]?.notification_count !== undefined;
      if (await applyReceipts(txn, roomId, receipts.content, counted ? undefined : me)) changed.add(roomId);
    }
    await txn.objectStore("meta").put(answer.pos, "pos");
  } catch (error) {
    txn.abort();
    await txn.done.catch(() => undefined);
    throw error;
  }
  await txn.done;
  return changed;
}

async function applyRoom(txn: Txn, roomId: string, result: RoomResult): Promise<void> {
  const before = await txn.objectStore("rooms").get(roomId);
  const room: Draft<RoomRecord> = { ...(before ?? blank(roomId)) };
  room.membership = result.membership ?? "join";
  if (result.bump_stamp !== undefined) room.bump = result.bump_stamp;
  if (result.initial) {
    room.name = result.name;
    room.avatar = result.avatar;
    room.isDirect = result.is_dm ?? false;
  }
  if (result.name !== undefined) room.name = result.name;
  if (result.avatar !== undefined) room.avatar = result.avatar;
  if (result.heroes) room.heroes = result.heroes;
  if (result.is_dm !== undefined) room.isDirect = result.is_dm;
  if (result.joined_count !== undefined) room.joined = result.joined_count;
  if (result.notification_count !== undefined) room.unread = result.notification_count;
  if (result.highlight_count !== undefined) room.highlights = result.highlight_count;
  if (result.invite_state) applyInvite(room, result);
  for (const event of result.required_state ?? []) await applyState(txn, room, event);
  await applyTimeline(txn, room, result);
  await txn.objectStore("rooms").put(room);
}

function blank(roomId: string): RoomRecord {
  return {
    roomId,
    membership: "join",
    heroes: [],
    isDirect: false,
    encrypted: false,
    space: false,
    joined: 0,
    unread: 0,
    highlights: 0,
    bump: 0,
    end: 0,
    segments: [],
    receipts: {},
  };
}

function applyInvite(room: Draft<RoomRecord>, result: RoomResult): void {
  for (const event of result.invite_state ?? []) {
    if (event.type === "m.room.name") room.name = text(event.content["name"]);
    if (event.type === "m.room.avatar") room.avatar = text(event.content["url"]);
    if (event.type === "m.room.encryption") room.encrypted = true;
    if (event.type === "m.room.create") room.space = event.content["type"] === "m.space";
    if (event.type === "m.room.member" && event.content["membership"] === "invite") {
      room.inviter = event.sender;
      room.isDirect = event.content["is_direct"] === true;
    }
  }
  const host = result.invite_state?.find((one) => one.type === "m.room.member" && one.state_key === room.inviter);
  if (room.inviter) {
    const displayname = text(host?.content["displayname"]);
    const avatar_url = text(host?.content["avatar_url"]);
    room.heroes = [{ user_id: room.inviter, displayname, avatar_url }];
  }
}

/** What the kept state of a room is changed by. */
async function applyState(txn: Txn, room: Draft<RoomRecord>, event: MatrixEvent): Promise<void> {
  if (event.type === "m.room.encryption") room.encrypted = true;
  if (event.type === "m.room.create") room.space = event.content["type"] === "m.space";
  if (event.type === "m.room.member" && event.state_key !== undefined) {
    await txn.objectStore("members").put(memberOf(room.roomId, event.state_key, event));
  }
}

function memberOf(roomId: string, userId: string, event: MatrixEvent): MemberRecord {
  return { roomId, userId, name: text(event.content["displayname"]), avatar: text(event.content["avatar_url"]) };
}

async function applyTimeline(txn: Txn, room: Draft<RoomRecord>, result: RoomResult): Promise<void> {
  const timeline = result.timeline ?? [];
  const fresh: MatrixEvent[] = [];
  let met = false;
  for (const event of timeline) {
    if (room.segments.length > 0 && (await known(txn, room.roomId, event.event_id))) {
      met = true;
      fresh.length = 0;
    } else {
      fresh.push(event);
    }
  }
  const first = room.segments.length === 0;
  const hole = !first && !met && (result.limited === true || result.initial === true) && timeline.length > 0;
  if (first && (timeline.length > 0 || result.prev_batch)) {
    room.segments = [{ start: room.end, token: result.prev_batch ?? null }];
  }
  if (hole) {
    room.end += ROOM_FOR_A_HOLE;
    room.segments = [...room.segments, { start: room.end, token: result.prev_batch ?? null }];
    await dropSent(txn, room.roomId);
  }
  for (const event of fresh) {
    await keep(txn, room, event, room.end);
    room.end += 1;
    await applyState(txn, room, event);
    await settleOutbox(txn, room.roomId, event);
  }
}

async function known(txn: Txn, roomId: string, eventId: string): Promise<StoredEvent | undefined> {
  return txn.objectStore("events").index("id").get([roomId, eventId]);
}

/** Stores an event and does to earlier ones what it says: an edit or a removal. */
async function keep(txn: Txn, room: Draft<RoomRecord>, event: MatrixEvent, order: number): Promise<void> {
  const edit = event.unsigned?.["m.relations"]?.["m.replace"]?.content?.["m.new_content"];
  const edited = edit === undefined ? undefined : object(edit);
  const stored: StoredEvent = { roomId: room.roomId, order, eventId: event.event_id, event, edited };
  const row = event.unsigned?.redacted_because === undefined ? stored : { ...stored, redacted: true as const };
  await txn.objectStore("events").put(row);
  if (isPreview(event) && (!room.last || room.last.order < order)) {
    room.last = row;
    const sender = await txn.objectStore("members").get([room.roomId, event.sender]);
    room.lastSender = sender?.name ?? room.heroes.find((hero) => hero.user_id === event.sender)?.displayname;
  }
  const target = targetOf(event);
  if (target) await change(txn, room, event, target);
}

function targetOf(event: MatrixEvent): string | undefined {
  if (event.type === "m.room.redaction") return text(event.redacts) ?? text(event.content["redacts"]);
  return editedBy(event);
}

export function editedBy(event: MatrixEvent): string | undefined {
  const relation = object(event.content["m.relates_to"]);
  return relation["rel_type"] === "m.replace" ? text(relation["event_id"]) : undefined;
}

async function change(txn: Txn, room: Draft<RoomRecord>, event: MatrixEvent, target: string): Promise<void> {
  const found = await known(txn, room.roomId, target);
  if (!found) return;
  let after: StoredEvent | undefined;
  if (event.type === "m.room.redaction") {
    after = { ...found, redacted: true, edited: undefined, event: { ...found.event, content: {} } };
  } else if (!found.redacted && found.event.sender === event.sender && found.event.type === event.type) {
    after = { ...found, edited: object(event.content["m.new_content"]) };
  }
  if (!after) return;
  await txn.objectStore("events").put(after);
  if (room.last?.eventId === target) room.last = after;
}

const PREVIEWS = new Set(["m.room.message", "m.sticker", "m.room.encrypted"]);

function isPreview(event: MatrixEvent): boolean {
  return PREVIEWS.has(event.type) && event.state_key === undefined && editedBy(event) === undefined;
}

/** Takes out of the outbox what the event is the arrival of. */
async function settleOutbox(txn: Txn, roomId: string, event: MatrixEvent): Promise<void> {
  const txnId = event.unsigned?.transaction_id;
  const waiting = await txn.objectStore("outbox").index("room").getAll(roomId);
  for (const entry of waiting) {
    if (entry.id === undefined) continue;
    if ((txnId !== undefined && entry.txnId === txnId) || entry.eventId === event.event_id) {
      await txn.objectStore("outbox").delete(entry.id);
    }
  }
}

/** After a hole, what was sent may lie in it: it will be seen there, so it is not kept as on its way. */
async function dropSent(txn: Txn, roomId: string): Promise<void> {
  for (const entry of await txn.objectStore("outbox").index("room").getAll(roomId)) {
    if (entry.state === "sent" && entry.id !== undefined) await txn.objectStore("outbox").delete(entry.id);
  }
}

/** With `me`, the answer did not count what is unread: then a receipt of one's own says what is left. */
async function applyReceipts(txn: Txn, roomId: string, content: ReceiptContent, me?: string): Promise<boolean> {
  const room = await txn.objectStore("rooms").get(roomId);
  if (!room) return false;
  const receipts: Record<string, Receipt> = { ...room.receipts };
  for (const [eventId, kinds] of Object.entries(content)) {
    const event = await known(txn, roomId, eventId);
    for (const kind of ["m.read", "m.read.private"]) {
      for (const [userId, mark] of Object.entries(kinds[kind] ?? {})) {
        const next = { eventId, ts: mark.ts ?? 0, order: event?.order ?? -Infinity };
        const had = receipts[userId];
        if (!had && Object.keys(receipts).length >= READERS_KEPT) continue;
        if (!had || next.order >= had.order) receipts[userId] = next;
      }
    }
  }
  const own = me === undefined ? undefined : receipts[me];
  const moved = own !== undefined && own !== room.receipts[me ?? ""];
  const left = moved ? await unreadAfter(txn, roomId, own.order, me ?? "") : undefined;
  const counts = left === undefined ? {} : { unread: Math.min(room.unread, left), highlights: left === 0 ? 0 : room.highlights };
  await txn.objectStore("rooms").put({ ...room, ...counts, receipts });
  return true;
}

/** How many messages of others the device knows after `order`; undefined where it does not know that place. */
async function unreadAfter(txn: Txn, roomId: string, order: number, me: string): Promise<number | undefined> {
  if (!Number.isFinite(order)) return undefined;
  const later = await txn.objectStore("events").getAll(IDBKeyRange.bound([roomId, order], [roomId, Infinity], true));
  return later.filter(({ event }) => isPreview(event) && event.sender !== me).length;
}

/** Writes a page of history before the newest segment, unless another tab was there first. */
export async function applyHistory(db: Database, roomId: string, token: string, page: MessagesPage): Promise<void> {
  const txn: Txn = db.transaction(STORES, "readwrite");
  const found = await txn.objectStore("rooms").get(roomId);
  const newest = found?.segments.at(-1);
  if (!found || !newest || newest.token !== token) return;
  const room: Draft<RoomRecord> = { ...found };
  let start = newest.start;
  let joined: Segment | undefined;
  const fetched: StoredEvent[] = [];
  for (const event of page.chunk) {
    const old = await known(txn, roomId, event.event_id);
    if (old && old.order >= newest.start) continue;
    if (old) {
      joined = room.segments.findLast((segment) => segment.start <= old.order);
      break;
    }
    start -= 1;
    fetched.push({ roomId, order: start, eventId: event.event_id, event });
  }
  for (const event of page.state ?? []) await rememberMember(txn, roomId, event);
  // Oldest first, so that an edit finds what it edits.
  for (const one of fetched.toReversed()) await keep(txn, room, one.event, one.order);
  const rest = room.segments.slice(0, -1);
  room.segments = joined
    ? [...rest.slice(0, rest.indexOf(joined)), joined]
    : [...rest, { start, token: page.end ?? null }];
  await txn.objectStore("rooms").put(room);
  await txn.done;
}

async function rememberMember(txn: Txn, roomId: string, event: MatrixEvent): Promise<void> {
  if (event.type !== "m.room.member" || event.state_key === undefined) return;
  if (await txn.objectStore("members").get([roomId, event.state_key])) return;
  await txn.objectStore("members").put(memberOf(roomId, event.state_key, event));
}

/** Says who invites to a room; false when it is no invitation any more. */
export async function nameHost(db: Database, roomId: string, profile: { displayname?: string; avatar_url?: string }): Promise<boolean> {
  const txn = db.transaction("rooms", "readwrite");
  const room = await txn.store.get(roomId);
  const host = room?.membership === "invite" ? room.heroes[0] : undefined;
  if (room && host) {
    const known = { user_id: host.user_id, displayname: text(profile.displayname), avatar_url: text(profile.avatar_url) };
    await txn.store.put({ ...room, heroes: [known] });
  }
  await txn.done;
  return host !== undefined;
}
