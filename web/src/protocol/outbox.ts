// SPDX-License-Identifier: Apache-2.0
// Knows what waits to be sent, in which order, and that each of it is sent once.
//
//   queued --answer--> sent --sync brings it--> (gone)
//   queued --refused--> failed --retry--> queued | --drop--> (gone)
//   queued --no answer, 429, 5xx--> queued, tried again later with the same transaction id
import { MatrixError, NoAnswer, type Api } from "./api";
import type { OutboxEntry } from "./records";
import { outbox, type Database } from "./store";
import type { Content } from "./types";


const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 60_000;

/** Writes a message down before anything else happens to it. */
export async function enqueue(db: Database, entry: Pick<OutboxEntry, "roomId" | "txnId" | "type" | "content" | "createdAt">): Promise<void> {
  await db.add("outbox", { ...entry, state: "queued" });
}

export async function retry(db: Database, id: number): Promise<void> {
  const txn = db.transaction("outbox", "readwrite");
  const entry = await txn.store.get(id);
  if (entry?.state === "failed") await txn.store.put({ ...entry, state: "queued", error: undefined });
  await txn.done;
}

/** Takes back what failed. What may be on its way cannot be taken back. */
export async function drop(db: Database, id: number): Promise<Content | undefined> {
  const txn = db.transaction("outbox", "readwrite");
  const entry = await txn.store.get(id);
  if (entry?.state === "failed") await txn.store.delete(id);
  await txn.done;
  return entry?.state === "failed" ? entry.content : undefined;
}

/** Sends what waits, as the only one on this device who does. */
export class Sender {
  private readonly busy = new Map<string, Promise<void>>();
  private readonly pauses = new Map<string, number>();

  constructor(
    private readonly db: Database,
    private readonly api: Api,
    private readonly changed: (roomId: string) => void,
    private readonly later: (ms: number, run: () => void) => void,
  ) {}

  /** Starts sending wherever something waits; rooms do not wait for each other. */
  async flush(): Promise<void> {
    const waiting = await outbox(this.db);
    const rooms = new Set(waiting.filter((entry) => entry.state === "queued").map((entry) => entry.roomId));
    await Promise.all([...rooms].map((roomId) => this.room(roomId)));
  }

  private room(roomId: string): Promise<void> {
    const running = this.busy.get(roomId);
    if (running) return running;
    const run = this.drain(roomId).finally(() => this.busy.delete(roomId));
    this.busy.set(roomId, run);
    return run;
  }

  private async drain(roomId: string): Promise<void> {
    for (;;) {
      const entries = await this.db.getAllFromIndex("outbox", "room", roomId);
      const next = entries.find((entry) => entry.state === "queued");
      if (next?.id === undefined) return;
      if (!(await this.deliver(next as OutboxEntry & { id: number }))) return;
    }
  }

  /** Whether the room's next message may follow now. */
  private async deliver(entry: OutboxEntry & { id: number }): Promise<boolean> {
    try {
      const { event_id } = await this.api.send(entry.roomId, entry.type, entry.txnId, entry.content);
      await this.settle(entry.id, { state: "sent", eventId: event_id });
      this.pauses.delete(entry.roomId);
      return true;
    } catch (error) {
      if (error instanceof MatrixError && !error.passing && error.errcode !== "M_UNKNOWN_TOKEN") {
        await this.settle(entry.id, { state: "failed", error: error.message });
        return true;
      }
      if (!(error instanceof NoAnswer) && !(error instanceof MatrixError)) throw error;
      this.pause(entry.roomId, error);
      return false;
    } finally {
      this.changed(entry.roomId);
    }
  }

  private pause(roomId: string, error: NoAnswer | MatrixError): void {
    const usual = this.pauses.get(roomId) ?? FIRST_PAUSE;
    this.pauses.set(roomId, Math.min(usual * 2, LONGEST_PAUSE));
    const asked = error instanceof MatrixError ? error.retryAfterMs : undefined;
    this.later(asked ?? usual, () => void this.room(roomId));
  }

  /** Sync may have brought the event first: then there is nothing left to settle. */
  private async settle(id: number, outcome: Partial<OutboxEntry>): Promise<void> {
    const txn = this.db.transaction(["outbox", "events"], "readwrite");
    const entry = await txn.objectStore("outbox").get(id);
    if (entry) {
      const there = outcome.eventId && (await txn.objectStore("events").index("id").get([entry.roomId, outcome.eventId]));
      if (there) await txn.objectStore("outbox").delete(id);
      else await txn.objectStore("outbox").put({ ...entry, ...outcome });
    }
    await txn.done;
  }
}
