// SPDX-License-Identifier: Apache-2.0
// Knows one open conversation: what it shows, how further history comes in, what is written and what counts as read.
import type { Locale } from "../i18n/locale";
import { MatrixError } from "../protocol/api";
import type { Change, Client } from "../protocol/client";
import type { MemberRecord, OutboxEntry, RoomRecord, StoredEvent } from "../protocol/records";
import * as store from "../protocol/store";
import { text as textOf } from "../protocol/types";
import { buildLog, type Item } from "./log";
import { Value } from "./observable";
import { localName, nameOf, pictureOf, tintOf, titleOf } from "./people";

export interface Head {
  readonly title: string;
  readonly picture?: string;
  readonly tint: string;
  readonly subtitle: string;
  readonly standing: "open" | "invited" | "encrypted" | "gone" | "unknown";
  readonly inviter: string;
  /** More than two people: bubbles then say whose they are. */
  readonly many: boolean;
}

export type Older = "there" | "fetching" | "failed" | "none";

export interface View {
  readonly head: Head;
  readonly items: readonly Item[];
  readonly older: Older;
  /** Grows when items were put before the first: the list then keeps its place. */
  readonly prepends: number;
}

const PAGE = 60;

export class Conversation {
  /** Undefined until the device's own memory was read. */
  readonly view = new Value<View | undefined>(undefined);
  readonly trouble = new Value(false);

  private first: number | undefined;
  private room: RoomRecord | undefined;
  private events: readonly StoredEvent[] = [];
  private sources: { outbox: readonly OutboxEntry[]; members: ReadonlyMap<string, MemberRecord> } = { outbox: [], members: new Map() };
  private readUpTo: number | undefined;
  private older: Older = "there";
  private prepends = 0;
  private typing: readonly string[] = [];
  private readUpToSent = -Infinity;
  private stale = false;
  private running: Promise<void> | undefined;
  private online = true;
  private closed = false;

  constructor(
    private readonly client: Client,
    readonly roomId: string,
    private readonly locale: Locale,
    private readonly now: () => number,
  ) {}

  open(): () => void {
    const stop = this.client.subscribe((change) => this.hear(change));
    void this.refresh();
    return () => {
      this.closed = true;
      stop();
    };
  }

  draft(): Promise<string> {
    return store.draft(this.client.db, this.roomId);
  }

  async keepDraft(text: string): Promise<void> {
    await this.client.saveDraft(this.roomId, text);
  }

  async send(text: string): Promise<void> {
    const body = text.trim();
    if (body === "") return;
    const emote = body.startsWith("/me ");
    const content = emote ? { msgtype: "m.emote", body: body.slice(4) } : { msgtype: "m.text", body };
    await this.client.send(this.roomId, "m.room.message", content);
    this.readUpTo = undefined;
    await this.client.saveDraft(this.roomId, "");
  }

  async retry(outboxId: number): Promise<void> {
    await this.client.retry(this.roomId, outboxId);
  }

  /** Takes a failed message back; answers its text, for writing it anew. */
  async drop(outboxId: number): Promise<string> {
    const content = await this.client.drop(this.roomId, outboxId);
    return textOf(content?.["body"]) ?? "";
  }

  async fetchOlder(): Promise<void> {
    if (this.older !== "there" && this.older !== "failed") return;
    if (this.first === undefined) return;
    this.older = "fetching";
    this.show();
    try {
      await this.widen();
    } catch {
      this.older = "failed";
      this.show();
    }
  }

  /** From the device's memory where it reaches, from the server beyond. */
  private async widen(): Promise<void> {
    const before = this.first ?? 0;
    let room = await store.room(this.client.db, this.roomId);
    let floor = room?.segments.at(-1)?.start ?? before;
    if (floor >= before) {
      const more = await this.client.fetchHistory(this.roomId);
      room = await store.room(this.client.db, this.roomId);
      floor = room?.segments.at(-1)?.start ?? before;
      if (!more && floor >= before) {
        this.older = "none";
        this.prepends += 1;
        return this.show();
      }
    }
    this.first = await store.orderBack(this.client.db, this.roomId, before, PAGE, floor);
    this.older = this.first <= floor && room?.segments.at(-1)?.token === null ? "none" : "there";
    this.prepends += 1;
    await this.refresh();
  }

  /** The newest message is on the screen of somebody who looks at it. */
  async seen(): Promise<void> {
    const newest = this.events.findLast((one) => one.event.sender !== this.client.session.userId);
    if (!newest || !this.room || this.room.membership !== "join") return;
    const had = this.room.receipts[this.client.session.userId]?.order ?? -Infinity;
    if (newest.order <= Math.max(had, this.readUpToSent)) return;
    const before = this.readUpToSent;
    this.readUpToSent = newest.order;
    await this.client.api.markRead(this.roomId, newest.eventId).catch(() => {
      this.readUpToSent = before;
    });
  }

  accept(): Promise<void> {
    return this.attempt(() => this.client.accept(this.roomId));
  }

  decline(): Promise<void> {
    return this.attempt(() => this.client.api.leave(this.roomId));
  }

  private async attempt(run: () => Promise<void>): Promise<void> {
    this.trouble.set(false);
    try {
      await run();
    } catch {
      this.trouble.set(true);
    }
  }

  private hear(change: Change): void {
    const typing = change.typing?.[this.roomId];
    if (typing) this.typing = typing.filter((one) => one !== this.client.session.userId);
    if (change.link) this.online = change.link !== "away";
    if (change.link === "live" && this.older === "failed") this.older = "there";
    if (typing || change.link || change.rooms.includes(this.roomId)) void this.refresh();
  }

  private refresh(): Promise<void> {
    if (this.running) {
      this.stale = true;
      return this.running;
    }
    this.running = this.read().finally(() => {
      this.running = undefined;
      if (this.stale && !this.closed) {
        this.stale = false;
        void this.refresh();
      }
    });
    return this.running;
  }

  private async read(): Promise<void> {
    const { db } = this.client;
    const room = await store.room(db, this.roomId);
    const floor = room?.segments.at(-1)?.start ?? 0;
    // A hole has opened: what was shown is no longer next to the newest.
    const jumped = this.first !== undefined && this.first < floor;
    if (this.first === undefined || jumped) {
      this.first = await store.orderBack(db, this.roomId, Infinity, PAGE, floor);
      if (!Number.isFinite(this.first)) this.first = floor;
      this.older = this.first <= floor && room?.segments.at(-1)?.token === null ? "none" : "there";
    }
    const [events, outbox, members] = await Promise.all([
      store.eventsFrom(db, this.roomId, this.first),
      store.outboxOf(db, this.roomId),
      store.members(db, this.roomId),
    ]);
    if (this.room === undefined && room && room.unread > 0) {
      this.readUpTo = room.receipts[this.client.session.userId]?.order;
    }
    this.room = room;
    this.events = events;
    this.sources = { outbox, members: new Map(members.map((one) => [one.userId, one])) };
    this.show();
  }

  private show(): void {
    if (this.closed) return;
    const { room } = this;
    const items = room
      ? buildLog({
          me: this.client.session.userId,
          room,
          events: this.events,
          outbox: this.sources.outbox,
          members: this.sources.members,
          locale: this.locale,
          now: this.now(),
          online: this.online,
          readUpTo: this.readUpTo,
          whole: this.older === "none",
        })
      : [];
    this.view.set({ head: this.head(room), items, older: this.older, prepends: this.prepends });
  }

  private head(room: RoomRecord | undefined): Head {
    const { words } = this.locale;
    if (!room) return { title: "", tint: this.roomId, subtitle: "", standing: "unknown", inviter: "", many: false };
    const talking = this.typing.map((userId) => nameOf(this.sources.members, userId));
    const quiet = room.joined > 2 ? words.chat.people(room.joined) : words.chat.direct;
    const standing =
      room.membership === "invite" ? "invited" : room.membership !== "join" ? "gone" : room.encrypted ? "encrypted" : "open";
    const host = room.heroes.find((hero) => hero.user_id === room.inviter);
    return {
      title: titleOf(room, words.list.nobody, this.locale.names),
      picture: pictureOf(room),
      tint: tintOf(room),
      subtitle: talking.length > 0 ? words.chat.typing(this.locale.names(talking)) : quiet,
      standing,
      inviter: host?.displayname ?? (room.inviter ? localName(room.inviter) : ""),
      many: room.joined > 2,
    };
  }
}

/** What to tell a person who wanted to start a conversation. */
export function reasonOf(error: unknown): string {
  return error instanceof MatrixError ? error.message : "";
}
