// SPDX-License-Identifier: Apache-2.0
// Knows how each call of the client API is written, and what its failures mean.
import type { Content, LoginAnswer, MessagesPage, SlidingAnswer } from "./types";

/** The server said no. */
export class MatrixError extends Error {
  constructor(
    readonly status: number,
    readonly errcode: string,
    message: string,
    readonly retryAfterMs?: number,
  ) {
    super(message);
    this.name = "MatrixError";
  }

  /** Whether the same call may succeed later without anybody changing it. */
  get passing(): boolean {
    return this.status === 429 || this.status >= 500;
  }
}

/** There was no answer: offline, refused, cut off or timed out. */
export class NoAnswer extends Error {
  constructor(cause: unknown) {
    super("no answer", { cause });
    this.name = "NoAnswer";
  }
}

export interface Session {
  readonly homeserver: string;
  readonly userId: string;
  readonly deviceId: string;
  readonly accessToken: string;
}

export type Fetch = (input: string, init: RequestInit) => Promise<Response>;

interface Ask {
  readonly method: "GET" | "POST" | "PUT";
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  readonly body?: unknown;
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
}

const ANSWER_WITHIN = 30_000;

export class Api {
  constructor(
    readonly homeserver: string,
    private readonly fetch: Fetch,
    private readonly token?: string,
  ) {}

  static of(session: Session, fetch: Fetch): Api {
    return new Api(session.homeserver, fetch, session.accessToken);
  }

  logIn(user: string, password: string, deviceName: string): Promise<LoginAnswer> {
    const identifier = { type: "m.id.user", user };
    const body = { type: "m.login.password", identifier, password, initial_device_display_name: deviceName };
    return this.call({ method: "POST", path: "/_matrix/client/v3/login", body });
  }

  async logOut(): Promise<void> {
    await this.call({ method: "POST", path: "/_matrix/client/v3/logout", body: {} });
  }

  sync(body: unknown, pos: string | undefined, timeoutMs: number, signal: AbortSignal): Promise<SlidingAnswer> {
    return this.call({
      method: "POST",
      path: "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync",
      query: { pos, timeout: timeoutMs },
      body,
      signal,
      timeoutMs: timeoutMs + ANSWER_WITHIN,
    });
  }

  send(roomId: string, type: string, txnId: string, content: Content): Promise<{ event_id: string }> {
    return this.call({ method: "PUT", path: path`/_matrix/client/v3/rooms/${roomId}/send/${type}/${txnId}`, body: content });
  }

  /** Events before `from`, newest first. */
  messagesBefore(roomId: string, from: string, limit: number): Promise<MessagesPage> {
    const filter = JSON.stringify({ lazy_load_members: true });
    return this.call({
      method: "GET",
      path: path`/_matrix/client/v3/rooms/${roomId}/messages`,
      query: { dir: "b", from, limit, filter },
    });
  }

  async markRead(roomId: string, eventId: string): Promise<void> {
    await this.call({ method: "POST", path: path`/_matrix/client/v3/rooms/${roomId}/receipt/m.read/${eventId}`, body: {} });
  }

  createDirectRoom(userId: string): Promise<{ room_id: string }> {
    const body = { preset: "trusted_private_chat", is_direct: true, invite: [userId] };
    return this.call({ method: "POST", path: "/_matrix/client/v3/createRoom", body });
  }

  accountData(userId: string, type: string): Promise<Content> {
    return this.call({ method: "GET", path: path`/_matrix/client/v3/user/${userId}/account_data/${type}` });
  }

  async setAccountData(userId: string, type: string, content: Content): Promise<void> {
    await this.call({ method: "PUT", path: path`/_matrix/client/v3/user/${userId}/account_data/${type}`, body: content });
  }

  async join(roomId: string): Promise<void> {
    await this.call({ method: "POST", path: path`/_matrix/client/v3/join/${roomId}`, body: {} });
  }

  async leave(roomId: string): Promise<void> {
    await this.call({ method: "POST", path: path`/_matrix/client/v3/rooms/${roomId}/leave`, body: {} });
  }

  profile(userId: string): Promise<{ displayname?: string; avatar_url?: string }> {
    return this.call({ method: "GET", path: path`/_matrix/client/v3/profile/${userId}` });
  }

  /** A small picture of an `mxc:` address, fetched with the token. */
  async thumbnail(mxc: string, side: number): Promise<Blob> {
    const parts = /^mxc:\/\/([^/?#]+)\/([A-Za-z0-9_-]+)$/.exec(mxc);
    if (!parts) throw new TypeError("not an mxc address");
    const [, server = "", id = ""] = parts;
    const where = path`/_matrix/client/v1/media/thumbnail/${server}/${id}`;
    const answer = await this.request({ method: "GET", path: where, query: { width: side, height: side, method: "crop" } });
    if (!answer.ok) throw await failure(answer);
    return answer.blob();
  }

  private async call<T>(ask: Ask): Promise<T> {
    const answer = await this.request(ask);
    if (!answer.ok) throw await failure(answer);
    try {
      return (await answer.json()) as T;
    } catch (cause) {
      throw new NoAnswer(cause);
    }
  }

  private async request(ask: Ask): Promise<Response> {
    const url = new URL(this.homeserver + ask.path);
    for (const [name, value] of Object.entries(ask.query ?? {})) if (value !== undefined) url.searchParams.set(name, String(value));
    const headers: Record<string, string> = {};
    if (this.token) headers["Authorization"] = `Bearer ${this.token}`;
    if (ask.body !== undefined) headers["Content-Type"] = "application/json";
    const late = AbortSignal.timeout(ask.timeoutMs ?? ANSWER_WITHIN);
    try {
      return await this.fetch(url.href, {
        method: ask.method,
        headers,
        body: ask.body === undefined ? null : JSON.stringify(ask.body),
        signal: ask.signal ? AbortSignal.any([ask.signal, late]) : late,
        cache: "no-store",
        credentials: "omit",
        redirect: "error",
      });
    } catch (cause) {
      if (ask.signal?.aborted) throw cause;
      throw new NoAnswer(cause);
    }
  }
}

function path(parts: TemplateStringsArray, ...values: string[]): string {
  return parts.reduce((done, part, at) => done + part + (at < values.length ? encodeURIComponent(values[at] ?? "") : ""), "");
}

async function failure(answer: Response): Promise<MatrixError> {
  let body: { errcode?: string; error?: string; retry_after_ms?: number } = {};
  try {
    body = (await answer.json()) as typeof body;
  } catch {
    // A proxy's page instead of the server's error: the status says what there is to know.
  }
  const seconds = Number(answer.headers.get("Retry-After") ?? Number.NaN);
  const wait = body.retry_after_ms ?? (Number.isFinite(seconds) ? seconds * 1000 : undefined);
  return new MatrixError(answer.status, body.errcode ?? "M_UNKNOWN", body.error ?? `HTTP ${answer.status}`, wait);
}
