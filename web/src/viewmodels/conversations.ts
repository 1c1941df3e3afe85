// SPDX-License-Identifier: Apache-2.0
// Knows the list of conversations: its rows, their order, and which of them a filter leaves.
import type { Locale } from "../i18n/locale";
import type { Change, Client } from "../protocol/client";
import type { OutboxEntry, RoomRecord } from "../protocol/records";
import * as store from "../protocol/store";
import { Value } from "./observable";
import { localName, pictureOf, tintOf, titleOf } from "./people";
import { gist, say } from "./wording";

export interface Row {
  readonly roomId: string;
  readonly title: string;
  readonly picture?: string;
  readonly tint: string;
  readonly preview: string;
  readonly kind: "message" | "draft" | "failed" | "invite" | "typing";
  readonly when: string;
  readonly at: number;
  readonly unread: number;
  readonly highlight: boolean;
  readonly encrypted: boolean;
}

export type Filter = "all" | "unread";

export class Conversations {
  /** Undefined until the device's own memory was read. */
  readonly rows = new Value<readonly Row[] | undefined>(undefined);
  readonly query = new Value("");
  readonly filter = new Value<Filter>("all");
  readonly unread = new Value(0);

  private readonly records = new Map<string, RoomRecord>();
  private readonly drafts = new Map<string, string>();
  /** What each room has in the outbox that is not sent: the failed one, else the last. */
  private readonly waiting = new Map<string, OutboxEntry>();
  private readonly typing = new Map<string, readonly string[]>();
  private loaded = false;
  private pending = new Set<string>();
  private running = false;

  constructor(
    private readonly client: Client,
    private locale: Locale,
    private readonly now: () => number,
  ) {}

  async load(): Promise<() => void> {
    const stop = this.client.subscribe((change) => this.hear(change));
    const { db } = this.client;
    const [rooms, drafts, outbox] = await Promise.all([store.rooms(db), store.drafts(db), store.outbox(db)]);
    for (const room of rooms) this.records.set(room.roomId, room);
    for (const draft of drafts) this.drafts.set(draft.roomId, draft.text);
    for (const roomId of new Set(outbox.map((entry) => entry.roomId))) {
      this.wait(roomId, outbox.filter((entry) => entry.roomId === roomId));
    }
    this.loaded = true;
    this.show();
    return stop;
  }

  setLocale(locale: Locale): void {
    this.locale = locale;
    this.show();
  }

  setQuery(query: string): void {
    this.query.set(query);
    this.show();
  }

  setFilter(filter: Filter): void {
    this.filter.set(filter);
    this.show();
  }

  private hear(change: Change): void {
    for (const [roomId, people] of Object.entries(change.typing ?? {})) {
      this.typing.set(roomId, people.filter((one) => one !== this.client.session.userId));
      this.pending.add(roomId);
    }
    for (const roomId of change.rooms) this.pending.add(roomId);
    if (this.pending.size > 0 && !this.running) void this.refresh();
  }

  /** Reads again what changed, all that gathered at once. */
  private async refresh(): Promise<void> {
    this.running = true;
    while (this.pending.size > 0) {
      const changed = [...this.pending];
      this.pending = new Set();
      await Promise.all(changed.map((roomId) => this.read(roomId)));
      if (this.loaded) this.show();
    }
    this.running = false;
  }

  private async read(roomId: string): Promise<void> {
    const { db } = this.client;
    const [room, draft, outbox] = await Promise.all([store.room(db, roomId), store.draft(db, roomId), store.outboxOf(db, roomId)]);
    if (room) this.records.set(roomId, room);
    if (draft) this.drafts.set(roomId, draft);
    else this.drafts.delete(roomId);
    this.wait(roomId, outbox);
  }

  private wait(roomId: string, outbox: readonly OutboxEntry[]): void {
    const shown = outbox.findLast((entry) => entry.state === "failed") ?? outbox.at(-1);
    if (shown) this.waiting.set(roomId, shown);
    else this.waiting.delete(roomId);
  }

  private show(): void {
    if (!this.loaded) return;
    const wanted = fold(this.query.get().trim());
    const rows: Row[] = [];
    let unread = 0;
    for (const room of this.records.values()) {
      if (room.space || (room.membership !== "join" && room.membership !== "invite")) continue;
      const row = this.row(room);
      if (row.unread > 0) unread += 1;
      if (this.filter.get() === "unread" && row.unread === 0) continue;
      if (wanted && !fold(`${row.title} ${row.preview}`).includes(wanted)) continue;
      rows.push(row);
    }
    const bump = (row: Row) => this.records.get(row.roomId)?.bump ?? 0;
    rows.sort((a, b) => bump(b) - bump(a));
    this.unread.set(unread);
    this.rows.set(rows);
  }

  private row(room: RoomRecord): Row {
    const { words } = this.locale;
    const invite = room.membership === "invite";
    const draft = this.drafts.get(room.roomId);
    const kind = invite
      ? "invite"
      : this.waiting.get(room.roomId)?.state === "failed"
        ? "failed"
        : this.typing.get(room.roomId)?.length
          ? "typing"
          : draft
            ? "draft"
            : "message";
    const at = room.last?.event.origin_server_ts ?? 0;
    return {
      roomId: room.roomId,
      title: titleOf(room, words.list.nobody, this.locale.names),
      picture: pictureOf(room),
      tint: tintOf(room),
      preview: kind === "draft" ? (draft ?? "") : this.preview(room),
      kind,
      when: at > 0 ? this.locale.brief(at, this.now()) : "",
      at,
      unread: invite ? 1 : room.unread,
      highlight: room.highlights > 0,
      encrypted: room.encrypted,
    };
  }

  private preview(room: RoomRecord): string {
    const { last } = room;
    const { words } = this.locale;
    const waiting = this.waiting.get(room.roomId);
    if (waiting) {
      const said = say(waiting.content, words).replace(/\s+/gu, " ");
      return waiting.state === "failed" ? said : words.list.you(said);
    }
    if (!last) return "";
    const said = gist(last, words);
    if (last.event.sender === this.client.session.userId) return words.list.you(said);
    if (room.joined <= 2) return said;
    return words.list.by(room.lastSender ?? localName(last.event.sender), said);
  }
}

/** Without case and accents, so that "amelie" finds "Amélie". */
export function fold(value: string): string {
  return value.normalize("NFD").replace(/\p{M}/gu, "").toLocaleLowerCase();
}
