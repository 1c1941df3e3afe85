// SPDX-License-Identifier: Apache-2.0
// Knows what a signed-in account can be asked to do, and which of the tabs does the work.
//
// The database is what all tabs share. The one that leads syncs and sends; the others write to the database, say so, and
// read from it when they are told that it changed.
import { Api, MatrixError, type Fetch, type Session } from "./api";
import { applyHistory, nameHost } from "./apply";
import { drop, enqueue, retry, Sender } from "./outbox";
import { room, saveDraft, type Database } from "./store";
import { keepInSync, type Link, type News } from "./sync";
import { object, type Content } from "./types";

const HISTORY_PAGE = 40;

export interface Change {
  readonly rooms: readonly string[];
  readonly typing?: Readonly<Record<string, readonly string[]>>;
  readonly link?: Link;
  readonly signedOut?: true;
}

type Note = Change | { readonly flush: true };

/** What the protocol needs of the place it runs in. */
export interface Surroundings {
  readonly fetch: Fetch;
  now(): number;
  newId(): string;
  later(ms: number, run: () => void): void;
  /** Sleeps, but wakes when the network comes back. */
  pause(ms: number): Promise<void>;
  /** Calls `lead` when no other tab does; the signal ends it. */
  whenLeading(lead: (signal: AbortSignal) => Promise<void>, signal: AbortSignal): void;
  /** A line to the other tabs. */
  channel(hear: (note: unknown) => void, signal: AbortSignal): (note: unknown) => void;
  onOnline(run: () => void, signal: AbortSignal): void;
}

export class Client {
  readonly api: Api;
  private readonly ending = new AbortController();
  private readonly listeners = new Set<(change: Change) => void>();
  private readonly tell: (note: Note) => void;
  private sender: Sender | undefined;

  constructor(
    readonly db: Database,
    readonly session: Session,
    private readonly around: Surroundings,
  ) {
    this.api = Api.of(session, around.fetch);
    this.tell = around.channel((note) => this.hear(note as Note), this.ending.signal);
  }

  start(): void {
    this.around.whenLeading((signal) => this.lead(signal), this.ending.signal);
    this.around.onOnline(() => void this.sender?.flush(), this.ending.signal);
  }

  stop(): void {
    this.ending.abort();
    this.listeners.clear();
  }

  subscribe(listener: (change: Change) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  async send(roomId: string, type: string, content: Content): Promise<void> {
    await enqueue(this.db, { roomId, type, content, txnId: this.around.newId(), createdAt: this.around.now() });
    this.announce({ rooms: [roomId] });
    this.flush();
  }

  async retry(roomId: string, id: number): Promise<void> {
    await retry(this.db, id);
    this.announce({ rooms: [roomId] });
    this.flush();
  }

  async drop(roomId: string, id: number): Promise<Content | undefined> {
    const content = await drop(this.db, id);
    this.announce({ rooms: [roomId] });
    return content;
  }

  /** Fetches what is before the kept run of events; false when nothing is. */
  async fetchHistory(roomId: string): Promise<boolean> {
    const token = (await room(this.db, roomId))?.segments.at(-1)?.token;
    if (!token) return false;
    const page = await this.api.messagesBefore(roomId, token, HISTORY_PAGE);
    await applyHistory(this.db, roomId, token, page);
    this.announce({ rooms: [roomId] });
    return true;
  }

  async saveDraft(roomId: string, text: string): Promise<void> {
    await saveDraft(this.db, roomId, text);
    this.announce({ rooms: [roomId] });
  }

  /** Opens a conversation with one person, in a room that both sides know as theirs. */
  async startDirect(userId: string): Promise<string> {
    const { room_id } = await this.api.createDirectRoom(userId);
    await this.markDirect(userId, room_id);
    return room_id;
  }

  async accept(roomId: string): Promise<void> {
    const before = await room(this.db, roomId);
    await this.api.join(roomId);
    if (before?.isDirect && before.inviter) await this.markDirect(before.inviter, roomId);
  }

  private async markDirect(userId: string, roomId: string): Promise<void> {
    const me = this.session.userId;
    const direct = await this.api.accountData(me, "m.direct").catch((error: unknown) => {
      if (error instanceof MatrixError && error.status === 404) return {} as Content;
      throw error;
    });
    const known = object(direct)[userId];
    const rooms: unknown[] = Array.isArray(known) ? known : [];
    if (rooms.includes(roomId)) return;
    await this.api.setAccountData(me, "m.direct", { ...direct, [userId]: [...rooms, roomId] });
  }

  /** Gives names to those who invite: an invitation need not say what its sender is called. */
  private async introduce(rooms: readonly string[]): Promise<void> {
    for (const roomId of rooms) {
      const found = await room(this.db, roomId);
      const host = found?.heroes[0];
      if (found?.membership !== "invite" || !host || host.displayname) continue;
      const profile = await this.api.profile(host.user_id).catch(() => undefined);
      if (profile?.displayname && (await nameHost(this.db, roomId, profile))) this.announce({ rooms: [roomId] });
    }
  }

  private async lead(signal: AbortSignal): Promise<void> {
    const later = (ms: number, run: () => void) => this.around.later(ms, () => void (signal.aborted || run()));
    const sender = new Sender(this.db, this.api, (roomId) => this.announce({ rooms: [roomId] }), later);
    this.sender = sender;
    void sender.flush();
    const events = {
      news: ({ rooms, typing }: News) => {
        this.announce({ rooms: [...rooms], typing });
        void this.introduce([...rooms]);
      },
      link: (link: Link) => this.announce({ rooms: [], link }),
      signedOut: () => this.announce({ rooms: [], signedOut: true }),
    };
    await keepInSync(this.db, this.api, this.session.userId, events, this.around.pause, signal);
    this.sender = undefined;
  }

  private flush(): void {
    if (this.sender) void this.sender.flush();
    else this.tell({ flush: true });
  }

  private announce(change: Change): void {
    this.tell(change);
    this.emit(change);
  }

  private hear(note: Note): void {
    if ("flush" in note) void this.sender?.flush();
    else this.emit(note);
  }

  private emit(change: Change): void {
    for (const listener of this.listeners) listener(change);
  }
}
