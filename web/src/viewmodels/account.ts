// SPDX-License-Identifier: Apache-2.0
// Knows whether somebody is signed in on this device, and how that begins and ends.
import { Api, MatrixError, NoAnswer, type Session } from "../protocol/api";
import { Client, type Surroundings } from "../protocol/client";
import * as store from "../protocol/store";
import { Value } from "./observable";

export type Refusal = { kind: "wrong" | "slow" | "unreachable" } | { kind: "refused"; reason: string };

export type State =
  | { readonly at: "starting" }
  | { readonly at: "signedOut"; readonly ended: boolean }
  | { readonly at: "signedIn"; readonly client: Client };

export class Account {
  readonly state = new Value<State>({ at: "starting" });

  private constructor(
    private readonly db: store.Database,
    private readonly around: Surroundings,
    private readonly homeserver: string,
    private readonly device: string,
  ) {}

  static async open(around: Surroundings, homeserver: string, device: string): Promise<Account> {
    const db = await store.openStore();
    const account = new Account(db, around, homeserver, device);
    const session = await store.session(db);
    if (session) account.begin(session);
    else account.state.set({ at: "signedOut", ended: false });
    return account;
  }

  async signIn(user: string, password: string): Promise<Refusal | undefined> {
    try {
      const api = new Api(this.homeserver, this.around.fetch);
      const answer = await api.logIn(user.trim(), password, this.device);
      const session: Session = {
        homeserver: this.homeserver,
        userId: answer.user_id,
        deviceId: answer.device_id,
        accessToken: answer.access_token,
      };
      await this.makeRoomFor(session);
      await store.saveSession(this.db, session);
      this.begin(session);
      return undefined;
    } catch (error) {
      return refusal(error);
    }
  }

  /** Another account must not find what the last one left; the same one finds its unsent messages. */
  private async makeRoomFor(session: Session): Promise<void> {
    const last = (await this.db.get("meta", "lastUser")) as string | undefined;
    if (last !== session.userId) await store.forget(this.db);
    await store.forgetPosition(this.db);
    await this.db.put("meta", session.userId, "lastUser");
  }

  async signOut(): Promise<void> {
    const state = this.state.get();
    if (state.at !== "signedIn") return;
    state.client.stop();
    await state.client.api.logOut().catch(() => undefined);
    await store.forget(this.db);
    this.state.set({ at: "signedOut", ended: false });
  }

  async waiting(): Promise<number> {
    return (await store.outbox(this.db)).filter((entry) => entry.state !== "sent").length;
  }

  private begin(session: Session): void {
    const client = new Client(this.db, session, this.around);
    client.subscribe((change) => {
      if (change.signedOut) void this.ended(client);
    });
    client.start();
    this.state.set({ at: "signedIn", client });
  }

  /** The server ended the session: what was not sent stays for the next one of the same person. */
  private async ended(client: Client): Promise<void> {
    client.stop();
    await this.db.delete("meta", "session");
    this.state.set({ at: "signedOut", ended: true });
  }
}

function refusal(error: unknown): Refusal {
  if (error instanceof NoAnswer) return { kind: "unreachable" };
  if (!(error instanceof MatrixError)) throw error;
  if (error.status === 403) return { kind: "wrong" };
  if (error.status === 429) return { kind: "slow" };
  return { kind: "refused", reason: error.message };
}
