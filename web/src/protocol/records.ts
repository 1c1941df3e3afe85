// SPDX-License-Identifier: Apache-2.0
// Knows the shape of everything that is kept on the device.
import type { DBSchema } from "idb";

import type { Session } from "./api";
import type { Content, Hero, MatrixEvent, Membership } from "./types";

/** A run of events without holes. `token` fetches what is before it; null: nothing is. */
export interface Segment {
  readonly start: number;
  readonly token: string | null;
}

export interface Receipt {
  readonly eventId: string;
  readonly ts: number;
  readonly order: number;
}

/** All that a row of the conversation list shows, so that the list paints from this alone. */
export interface RoomRecord {
  readonly roomId: string;
  readonly membership: Membership;
  readonly name?: string;
  readonly avatar?: string;
  readonly heroes: readonly Hero[];
  readonly isDirect: boolean;
  readonly encrypted: boolean;
  readonly space: boolean;
  readonly joined: number;
  readonly unread: number;
  readonly highlights: number;
  readonly bump: number;
  readonly last?: StoredEvent;
  readonly lastSender?: string;
  readonly inviter?: string;
  readonly end: number;
  readonly segments: readonly Segment[];
  readonly receipts: Readonly<Record<string, Receipt>>;
}

export interface StoredEvent {
  readonly roomId: string;
  readonly order: number;
  readonly eventId: string;
  readonly event: MatrixEvent;
  readonly edited?: Content;
  readonly redacted?: true;
}

export interface MemberRecord {
  readonly roomId: string;
  readonly userId: string;
  readonly name?: string;
  readonly avatar?: string;
}

/** `sent`: the server has it, and sync has not brought it yet. */
export type OutboxState = "queued" | "failed" | "sent";

export interface OutboxEntry {
  readonly id?: number;
  readonly roomId: string;
  readonly txnId: string;
  readonly type: string;
  readonly content: Content;
  readonly createdAt: number;
  readonly state: OutboxState;
  readonly eventId?: string;
  readonly error?: string;
}

export interface Draft {
  readonly roomId: string;
  readonly text: string;
}

export interface Schema extends DBSchema {
  meta: { key: string; value: Session | string };
  rooms: { key: string; value: RoomRecord };
  events: { key: [string, number]; value: StoredEvent; indexes: { id: [string, string] } };
  members: { key: [string, string]; value: MemberRecord };
  outbox: { key: number; value: OutboxEntry; indexes: { room: string } };
  drafts: { key: string; value: Draft };
}
