// SPDX-License-Identifier: Apache-2.0
// The list of conversations, over a real client on a database of its own.
import { beforeEach, expect, test } from "vitest";

import { en } from "../i18n/en";
import { locale } from "../i18n/locale";
import { applyAnswer } from "../protocol/apply";
import { Client, type Surroundings } from "../protocol/client";
import type { Database } from "../protocol/store";
import { answer, freshStore, ME, message } from "../protocol/testing";
import { Conversations } from "./conversations";
import { initials } from "./people";

let db: Database;
let client: Client;
let list: Conversations;

const around: Surroundings = {
  fetch: () => Promise.reject(new TypeError("network")),
  now: () => 1_700_000_100_000,
  newId: () => "id",
  later: () => undefined,
  pause: () => Promise.resolve(),
  whenLeading: () => undefined,
  channel: () => () => undefined,
  onOnline: () => undefined,
};

beforeEach(async () => {
  db = await freshStore();
  const amelie = { user_id: "@amelie:shop.test", displayname: "Amélie K." };
  await applyAnswer(
    db,
    answer({
      "!bike": { initial: true, heroes: [amelie], joined_count: 2, bump_stamp: 1, notification_count: 2, timeline: [message("$1", "Is the bike there?")] },
      "!lamp": { initial: true, name: "Lamp", joined_count: 3, bump_stamp: 2, timeline: [message("$2", "Counter-offer")] },
      "!invite": { initial: true, membership: "invite", bump_stamp: 3, invite_state: [{ type: "m.room.member", state_key: ME, sender: "@tomas:shop.test", content: { membership: "invite" } }] },
      "!left": { initial: true, membership: "leave", bump_stamp: 9 },
    }),
    ME,
  );
  client = new Client(db, { homeserver: "http://server", userId: ME, deviceId: "D", accessToken: "t" }, around);
  list = new Conversations(client, locale("en", en), around.now);
  await list.load();
});

const titles = () => list.rows.get()?.map((row) => row.title);
const settled = () => new Promise((resolve) => setTimeout(resolve, 50));

test("the newest stands first; what was left is not there", () => {
  expect(titles()).toEqual(["tomas", "Lamp", "Amélie K."]);
  expect(list.rows.get()?.map((row) => row.kind)).toEqual(["invite", "message", "message"]);
});

test("between two people the line needs no name", () => {
  expect(list.rows.get()?.map((row) => row.preview)).toEqual(["", "jonas: Counter-offer", "Is the bike there?"]);
});

test("unread is counted by conversation, and filters", () => {
  expect(list.unread.get()).toBe(2);
  list.setFilter("unread");
  expect(titles()).toEqual(["tomas", "Amélie K."]);
});

test("search needs neither case nor accents, and looks into the last message", () => {
  list.setQuery("AMELIE");
  expect(titles()).toEqual(["Amélie K."]);
  list.setQuery("counter");
  expect(titles()).toEqual(["Lamp"]);
});

test("a draft shows in the list, live", async () => {
  await client.saveDraft("!lamp", "Let me think");
  await settled();
  expect(list.rows.get()?.[1]).toMatchObject({ kind: "draft", preview: "Let me think" });
});

test("initials are letters of any script", () => {
  expect(["Jonas Berg", "amelie", "李 小龙", "Anna Maria van Dyk", "!!"].map(initials)).toEqual(["JB", "A", "李小", "AD", ""]);
});

test("what waits to be sent is the last message already", async () => {
  await client.send("!bike", "m.room.message", { msgtype: "m.text", body: "On my\nway" });
  await settled();
  expect(list.rows.get()?.[2]).toMatchObject({ kind: "message", preview: "You: On my way" });
  const [entry] = await db.getAll("outbox");
  await db.put("outbox", { ...entry!, state: "failed" });
  await client.saveDraft("!bike", "");
  await settled();
  expect(list.rows.get()?.[2]).toMatchObject({ kind: "failed", preview: "On my way" });
});
