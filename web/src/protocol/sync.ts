// SPDX-License-Identifier: Apache-2.0
// Knows how to keep the device up to date: one request after the other, each answer written before the next is asked for.
import { MatrixError, NoAnswer, type Api } from "./api";
import { applyAnswer } from "./apply";
import { forgetPosition, position, type Database } from "./store";
import type { SlidingAnswer } from "./types";

const WAIT = 30_000;
const FIRST_WINDOW = 20;
const GROWTH = 200;
const TIMELINE = 20;
const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 30_000;

const STATE = [
  ["m.room.create", ""],
  ["m.room.encryption", ""],
  ["m.room.member", "$LAZY"],
  ["m.room.member", "$ME"],
] as const;

export type Link = "connecting" | "live" | "away";

export interface News {
  readonly rooms: ReadonlySet<string>;
  readonly typing: Readonly<Record<string, readonly string[]>>;
}

export interface SyncEvents {
  news(news: News): void;
  link(link: Link): void;
  /** The server does not know the token any more. */
  signedOut(): void;
}

/** Runs until the signal ends it or the token does. `pause` sleeps, but not through a return of the network. */
export async function keepInSync(
  db: Database,
  api: Api,
  me: string,
  events: SyncEvents,
  pause: (ms: number) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  let window = FIRST_WINDOW;
  let wait = FIRST_PAUSE;
  let whole = false;
  let pos = await position(db);
  events.link("connecting");
  while (!signal.aborted) {
    try {
      const answer = await api.sync(request(window), pos, whole && pos !== undefined ? WAIT : 0, signal);
      const rooms = await applyAnswer(db, answer, me);
      pos = answer.pos;
      wait = FIRST_PAUSE;
      events.news({ rooms, typing: typing(answer) });
      events.link("live");
      const count = answer.lists?.["all"]?.count ?? 0;
      whole = window >= count;
      if (!whole) window = Math.min(window + GROWTH, Math.max(count, FIRST_WINDOW));
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof MatrixError && error.errcode === "M_UNKNOWN_POS") {
        pos = undefined;
        whole = false;
        window = FIRST_WINDOW;
        await forgetPosition(db);
        continue;
      }
      if (error instanceof MatrixError && error.errcode === "M_UNKNOWN_TOKEN") return events.signedOut();
      if (!(error instanceof NoAnswer) && !(error instanceof MatrixError)) throw error;
      events.link("away");
      await pause((error instanceof MatrixError && error.retryAfterMs) || wait);
      wait = Math.min(wait * 2, LONGEST_PAUSE);
      whole = false;
    }
  }
}

function request(window: number): unknown {
  return {
    conn_id: "web",
    lists: { all: { ranges: [[0, window - 1]], timeline_limit: TIMELINE, required_state: STATE } },
    extensions: { receipts: { enabled: true }, typing: { enabled: true } },
  };
}

function typing(answer: SlidingAnswer): Record<string, readonly string[]> {
  const rooms = Object.entries(answer.extensions?.typing?.rooms ?? {});
  return Object.fromEntries(rooms.map(([roomId, one]) => [roomId, one.content.user_ids ?? []]));
}
