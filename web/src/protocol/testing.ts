// SPDX-License-Identifier: Apache-2.0
// Knows how tests get a database of their own and write down events.
import "fake-indexeddb/auto";

import { openStore, type Database } from "./store";
import type { Content, MatrixEvent, RoomResult, SlidingAnswer } from "./types";

export const ME = "@maya:shop.test";
export const JONAS = "@jonas:shop.test";
export const ROOM = "!lamp";

let made = 0;

export function freshStore(): Promise<Database> {
  made += 1;
  return openStore(`test-${made}`);
}

export function message(id: string, body: string, more: Partial<MatrixEvent> = {}): MatrixEvent {
  const content: Content = { msgtype: "m.text", body };
  return { event_id: id, type: "m.room.message", sender: JONAS, origin_server_ts: 1_700_000_000_000, content, ...more };
}

export function answer(rooms: Record<string, RoomResult>, more: Partial<SlidingAnswer> = {}): SlidingAnswer {
  return { pos: "1", rooms, lists: { all: { count: Object.keys(rooms).length } }, ...more };
}
