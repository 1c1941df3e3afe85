// SPDX-License-Identifier: Apache-2.0
// Knows how to open the device's database and what is read from it.
import { deleteDB, openDB, type IDBPDatabase } from "idb";

import type { Session } from "./api";
import type { Draft, MemberRecord, OutboxEntry, RoomRecord, Schema, StoredEvent } from "./records";

export type Database = IDBPDatabase<Schema>;

const VERSION = 1;
const NAME = "parley";

export function openStore(name = NAME): Promise<Database> {
  return openDB<Schema>(name, VERSION, {
    upgrade(db) {
      db.createObjectStore("meta");
      db.createObjectStore("rooms", { keyPath: "roomId" });
      db.createObjectStore("events", { keyPath: ["roomId", "order"] }).createIndex("id", ["roomId", "eventId"], { unique: true });
      db.createObjectStore("members", { keyPath: ["roomId", "userId"] });
      db.createObjectStore("outbox", { keyPath: "id", autoIncrement: true }).createIndex("room", "roomId");
      db.createObjectStore("drafts", { keyPath: "roomId" });
    },
    blocking(_old, _new, event) {
      (event.target as IDBDatabase).close();
    },
  });
}

export function dropStore(name = NAME): Promise<void> {
  return deleteDB(name);
}

export async function session(db: Database): Promise<Session | undefined> {
  return (await db.get("meta", "session")) as Session | undefined;
}

export async function saveSession(db: Database, value: Session): Promise<void> {
  await db.put("meta", value, "session");
}

/** Forgets the account and all that it brought. */
export async function forget(db: Database): Promise<void> {
  const names = ["meta", "rooms", "events", "members", "outbox", "drafts"] as const;
  const txn = db.transaction(names, "readwrite");
  await Promise.all([...names.map((name) => txn.objectStore(name).clear()), txn.done]);
}

export async function position(db: Database): Promise<string | undefined> {
  return (await db.get("meta", "pos")) as string | undefined;
}

export async function forgetPosition(db: Database): Promise<void> {
  await db.delete("meta", "pos");
}

export function rooms(db: Database): Promise<RoomRecord[]> {
  return db.getAll("rooms");
}

export function room(db: Database, roomId: string): Promise<RoomRecord | undefined> {
  return db.get("rooms", roomId);
}

/** Events of a room from `first` to the end, oldest first. */
export function eventsFrom(db: Database, roomId: string, first: number): Promise<StoredEvent[]> {
  return db.getAll("events", IDBKeyRange.bound([roomId, first], [roomId, Infinity]));
}

/** The order of the `count`th event before `before`, not lower than `floor`; `before` itself when there is none. */
export async function orderBack(db: Database, roomId: string, before: number, count: number, floor: number): Promise<number> {
  const range = IDBKeyRange.bound([roomId, floor], [roomId, before], false, true);
  let cursor = await db.transaction("events").store.openKeyCursor(range, "prev");
  if (cursor && count > 1) {
    const last = await cursor.advance(count - 1);
    if (!last) {
      const first = await db.transaction("events").store.openKeyCursor(range, "next");
      return first ? first.key[1] : before;
    }
    cursor = last;
  }
  return cursor ? cursor.key[1] : before;
}

export function members(db: Database, roomId: string): Promise<MemberRecord[]> {
  return db.getAll("members", IDBKeyRange.bound([roomId, ""], [roomId, "\uffff"]));
}

export function outboxOf(db: Database, roomId: string): Promise<OutboxEntry[]> {
  return db.getAllFromIndex("outbox", "room", roomId);
}

export function outbox(db: Database): Promise<OutboxEntry[]> {
  return db.getAll("outbox");
}

export function drafts(db: Database): Promise<Draft[]> {
  return db.getAll("drafts");
}

export async function draft(db: Database, roomId: string): Promise<string> {
  return (await db.get("drafts", roomId))?.text ?? "";
}

export async function saveDraft(db: Database, roomId: string, text: string): Promise<void> {
  if (text.trim() === "") await db.delete("drafts", roomId);
  else await db.put("drafts", { roomId, text });
}
