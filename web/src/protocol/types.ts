// SPDX-License-Identifier: Apache-2.0
// Knows the shapes that go over the wire: events, and what sliding sync asks and answers.

export type Content = Readonly<Record<string, unknown>>;

export interface MatrixEvent {
  readonly event_id: string;
  readonly type: string;
  readonly sender: string;
  readonly origin_server_ts: number;
  readonly content: Content;
  readonly state_key?: string;
  readonly redacts?: string;
  readonly unsigned?: {
    readonly transaction_id?: string;
    readonly prev_content?: Content;
    readonly redacted_because?: unknown;
    /** What the server knows of relations to the event; under `m.replace` the newest edit. */
    readonly "m.relations"?: { readonly "m.replace"?: { readonly content?: Content } };
  };
}

export interface StrippedState {
  readonly type: string;
  readonly state_key: string;
  readonly sender: string;
  readonly content: Content;
}

export type Membership = "join" | "invite" | "knock" | "leave" | "ban";

export interface Hero {
  readonly user_id: string;
  readonly displayname?: string;
  readonly avatar_url?: string;
}

export interface RoomResult {
  readonly initial?: boolean;
  readonly limited?: boolean;
  readonly timeline?: readonly MatrixEvent[];
  readonly prev_batch?: string;
  readonly num_live?: number;
  readonly required_state?: readonly MatrixEvent[];
  readonly invite_state?: readonly StrippedState[];
  readonly name?: string;
  readonly avatar?: string;
  readonly heroes?: readonly Hero[];
  readonly joined_count?: number;
  readonly invited_count?: number;
  readonly is_dm?: boolean;
  readonly bump_stamp?: number;
  readonly membership?: Membership;
  readonly notification_count?: number;
  readonly highlight_count?: number;
}

export interface ReceiptContent {
  readonly [eventId: string]: { readonly [kind: string]: { readonly [userId: string]: { readonly ts?: number } } };
}

export interface SlidingAnswer {
  readonly pos: string;
  readonly lists?: Readonly<Record<string, { readonly count: number }>>;
  readonly rooms?: Readonly<Record<string, RoomResult>>;
  readonly extensions?: {
    readonly receipts?: { readonly rooms?: Readonly<Record<string, { readonly content: ReceiptContent }>> };
    readonly typing?: { readonly rooms?: Readonly<Record<string, { readonly content: { readonly user_ids?: readonly string[] } }>> };
  };
}

export interface MessagesPage {
  readonly chunk: readonly MatrixEvent[];
  readonly end?: string;
  readonly state?: readonly MatrixEvent[];
}

export interface LoginAnswer {
  readonly user_id: string;
  readonly access_token: string;
  readonly device_id: string;
}

export function text(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

export function object(value: unknown): Content {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Content) : {};
}
