// SPDX-License-Identifier: Apache-2.0
// Knows how stored events, what waits to be sent and who has read what become the items of a conversation's log.
import type { Locale } from "../i18n/locale";
import { editedBy } from "../protocol/apply";
import type { MemberRecord, OutboxEntry, RoomRecord, StoredEvent } from "../protocol/records";
import type { Content } from "../protocol/types";
import { daysBetween } from "../i18n/locale";
import { nameOf } from "./people";
import { say, sayChange } from "./wording";

export type Status = "sending" | "queued" | "failed" | "sent" | "read";

export interface Bubble {
  readonly kind: "bubble";
  readonly key: string;
  readonly mine: boolean;
  readonly sender: string;
  readonly name: string;
  readonly picture?: string;
  readonly text: string;
  readonly tone: "text" | "emoji" | "emote" | "quiet";
  readonly time: string;
  readonly at: number;
  readonly edited: boolean;
  readonly first: boolean;
  readonly last: boolean;
  readonly status?: Status;
  readonly readers: readonly string[];
  readonly outboxId?: number;
}

export type Item =
  | Bubble
  | { readonly kind: "day"; readonly key: string; readonly text: string }
  | { readonly kind: "system"; readonly key: string; readonly text: string }
  | { readonly kind: "new"; readonly key: string };

export interface Sources {
  readonly me: string;
  readonly room: RoomRecord;
  readonly events: readonly StoredEvent[];
  readonly outbox: readonly OutboxEntry[];
  readonly members: ReadonlyMap<string, MemberRecord>;
  readonly locale: Locale;
  readonly now: number;
  readonly online: boolean;
  /** What was read when the conversation was opened; undefined: no line. */
  readonly readUpTo?: number;
  /** The first event is the first of the conversation. */
  readonly whole: boolean;
}

/** Bubbles of one person within this time stand together. */
const TOGETHER = 5 * 60_000;

type Open = { -readonly [K in keyof Bubble]: Bubble[K] };
type Made = Open | Exclude<Item, Bubble>;

export function buildLog(from: Sources): readonly Item[] {
  const items: Made[] = [];
  let day: number | undefined;
  let marked = false;
  let readBefore = false;
  const dated = (ts: number): void => {
    const back = daysBetween(ts, from.now);
    if (back === day) return;
    day = back;
    items.push({ kind: "day", key: `day ${new Date(ts).toDateString()}`, text: from.locale.day(ts, from.now) });
  };
  if (from.whole) items.push({ kind: "system", key: "beginning", text: from.locale.words.chat.beginning });
  const creator = from.events.find((stored) => stored.event.type === "m.room.create")?.event.sender;
  for (const stored of from.events) {
    if (stored.order <= (from.readUpTo ?? Infinity)) readBefore = true;
    if (creator !== undefined && joinsOwn(stored, creator)) continue;
    const made = stored.event.state_key === undefined ? bubbleOf(stored, from) : systemOf(stored, from);
    if (!made) continue;
    const news = from.readUpTo !== undefined && stored.order > from.readUpTo && stored.event.sender !== from.me;
    dated(stored.event.origin_server_ts);
    if (news && readBefore && !marked && made.kind === "bubble") {
      marked = true;
      items.push({ kind: "new", key: "new" });
    }
    items.push(made);
  }
  for (const entry of from.outbox) {
    dated(entry.createdAt);
    items.push(waitingOf(entry, from));
  }
  return group(items);
}

function group(items: readonly Made[]): readonly Item[] {
  items.forEach((item, at) => {
    if (item.kind !== "bubble") return;
    const before = items[at - 1];
    const after = items[at + 1];
    item.first = !(before?.kind === "bubble" && joins(before, item));
    item.last = !(after?.kind === "bubble" && joins(item, after));
  });
  return items;
}

function joins(a: Bubble, b: Bubble): boolean {
  return a.sender === b.sender && b.at - a.at < TOGETHER && a.tone !== "emote" && b.tone !== "emote";
}

/** That who starts a conversation is in it goes without saying. */
function joinsOwn({ event }: StoredEvent, creator: string): boolean {
  if (event.type !== "m.room.member" || event.state_key !== creator || event.sender !== creator) return false;
  return event.content["membership"] === "join" && event.unsigned?.prev_content === undefined;
}

function systemOf(stored: StoredEvent, from: Sources): Made | undefined {
  const said = stored.redacted ? undefined : sayChange(stored.event, from.members, from.locale.words);
  return said === undefined ? undefined : { kind: "system", key: stored.eventId, text: said };
}

const SPOKEN = new Set(["m.room.message", "m.sticker", "m.room.encrypted"]);

function bubbleOf(stored: StoredEvent, from: Sources): Open | undefined {
  const { event } = stored;
  if (!SPOKEN.has(event.type) || (editedBy(event) !== undefined && !stored.redacted)) return undefined;
  const { words } = from.locale;
  const content: Content = stored.edited ?? event.content;
  const closed = event.type === "m.room.encrypted";
  const said = stored.redacted
    ? words.message.removed
    : closed
      ? words.message.unreadable
      : event.type === "m.sticker"
        ? words.message.sticker
        : say(content, words);
  const mine = event.sender === from.me;
  const readers = mine ? readersOf(stored, from) : [];
  return {
    kind: "bubble",
    // The key stays the same when the event arrives, so that the bubble on the screen is not made anew.
    key: mine && event.unsigned?.transaction_id ? event.unsigned.transaction_id : stored.eventId,
    mine,
    sender: event.sender,
    name: nameOf(from.members, event.sender),
    picture: from.members.get(event.sender)?.avatar,
    text: said,
    tone: stored.redacted || closed ? "quiet" : toneOf(content, said),
    time: from.locale.clock(event.origin_server_ts),
    at: event.origin_server_ts,
    edited: stored.edited !== undefined && !stored.redacted,
    first: true,
    last: true,
    status: mine && !stored.redacted ? (readers.length > 0 ? "read" : "sent") : undefined,
    readers,
  };
}

function toneOf(content: Content, said: string): Bubble["tone"] {
  if (content["msgtype"] === "m.emote") return "emote";
  return /^(\p{Extended_Pictographic}|\p{Emoji_Modifier}|\p{Regional_Indicator}|\u200d|\ufe0f|\s)+$/u.test(said) &&
    [...new Intl.Segmenter().segment(said.replace(/\s/gu, ""))].length <= 3
    ? "emoji"
    : "text";
}

function readersOf(stored: StoredEvent, from: Sources): readonly string[] {
  return Object.entries(from.room.receipts)
    .filter(([userId, receipt]) => userId !== from.me && receipt.order >= stored.order)
    .map(([userId]) => nameOf(from.members, userId));
}

function waitingOf(entry: OutboxEntry, from: Sources): Open {
  const said = say(entry.content, from.locale.words);
  const status = entry.state === "queued" ? (from.online ? "sending" : "queued") : entry.state;
  return {
    kind: "bubble",
    key: entry.txnId,
    mine: true,
    sender: from.me,
    name: nameOf(from.members, from.me),
    text: said,
    tone: toneOf(entry.content, said),
    time: from.locale.clock(entry.createdAt),
    at: entry.createdAt,
    edited: false,
    first: true,
    last: true,
    status,
    readers: [],
    outboxId: entry.id,
  };
}
