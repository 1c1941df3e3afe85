// SPDX-License-Identifier: Apache-2.0
// Knows how events are said in words: the line in the list, and system messages in the log.
import type { Catalog } from "../i18n/catalog";
import type { MemberRecord, StoredEvent } from "../protocol/records";
import { text, type MatrixEvent } from "../protocol/types";
import { localName, nameOf } from "./people";

/** What a message says, as plain text on one line. */
export function gist(stored: StoredEvent, words: Catalog): string {
  if (stored.redacted) return words.message.removed;
  if (stored.event.type === "m.room.encrypted") return words.message.unreadable;
  if (stored.event.type === "m.sticker") return words.message.sticker;
  return say(stored.edited ?? stored.event.content, words).replace(/\s+/gu, " ");
}

/** The text of a message's content, or the word for what it holds. */
export function say(content: Readonly<Record<string, unknown>>, words: Catalog): string {
  const body = text(content["body"]);
  switch (content["msgtype"]) {
    case "m.text":
    case "m.notice":
    case "m.emote":
      return withoutFallback(body ?? "", content);
    case "m.image":
      return titled(words.message.picture, content);
    case "m.video":
      return titled(words.message.video, content);
    case "m.audio":
      return words.message.voice;
    case "m.file":
      return titled(words.message.file, content);
    case "m.location":
      return words.message.place;
    default:
      return body ?? words.message.other;
  }
}

function titled(word: string, content: Readonly<Record<string, unknown>>): string {
  const name = text(content["filename"]) ?? text(content["body"]);
  return name ? `${word}: ${name}` : word;
}

/** Older clients put the quoted message into the body of a reply; those lines are not what the person wrote. */
function withoutFallback(body: string, content: Readonly<Record<string, unknown>>): string {
  const relation = content["m.relates_to"];
  if (typeof relation !== "object" || relation === null || !("m.in_reply_to" in relation)) return body;
  return /^> .*\n/u.test(body) ? body.replace(/^(> .*\n)+\n?/u, "") : body;
}

type Say = (event: MatrixEvent, name: (userId: string) => string, words: Catalog) => string | undefined;

const SYSTEM: Readonly<Record<string, Say>> = {
  "m.room.create": (event, name, words) => words.system.created(name(event.sender)),
  "m.room.encryption": (event, name, words) => words.system.private(name(event.sender)),
  "m.room.avatar": (event, name, words) => words.system.roomPicture(name(event.sender)),
  "m.room.member": sayMember,
  "m.room.name": (event, name, words) => {
    const title = text(event.content["name"]);
    return title && words.system.named(name(event.sender), title);
  },
  "m.room.topic": (event, name, words) => {
    const topic = text(event.content["topic"]);
    return topic && words.system.topic(name(event.sender), topic);
  },
};

/** A change of the room in words; undefined for what nobody needs to read. */
export function sayChange(event: MatrixEvent, members: ReadonlyMap<string, MemberRecord>, words: Catalog): string | undefined {
  if (event.state_key === undefined) return undefined;
  return SYSTEM[event.type]?.(event, (userId) => nameOf(members, userId), words);
}

function sayMember(event: MatrixEvent, name: (userId: string) => string, words: Catalog): string | undefined {
  const who = event.state_key ?? "";
  const before = event.unsigned?.prev_content;
  const is = event.content["membership"];
  const was = before?.["membership"];
  const own = text(event.content["displayname"]) ?? (is === "leave" ? name(who) : localName(who));
  if (is === "invite") return words.system.invited(name(event.sender), own);
  if (is === "ban") return words.system.barred(name(event.sender), name(who));
  if (is === "leave") {
    if (event.sender !== who) return words.system.removed(name(event.sender), name(who));
    return was === "invite" ? words.system.declined(name(who)) : words.system.left(name(who));
  }
  if (is !== "join") return undefined;
  if (was !== "join") return words.system.joined(own);
  const old = text(before?.["displayname"]) ?? localName(who);
  if (old !== own) return words.system.renamed(old, own);
  return before?.["avatar_url"] !== event.content["avatar_url"] ? words.system.picture(own) : undefined;
}
