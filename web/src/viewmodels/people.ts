// SPDX-License-Identifier: Apache-2.0
// Knows what people and rooms are called, and how they look without a picture.
import type { MemberRecord, RoomRecord } from "../protocol/records";

/** `@jonas:example.org` without the parts that shoppers do not know. */
export function localName(userId: string): string {
  const end = userId.indexOf(":");
  const name = userId.slice(userId.startsWith("@") ? 1 : 0, end < 0 ? undefined : end);
  return name || userId;
}

export function nameOf(members: ReadonlyMap<string, MemberRecord>, userId: string): string {
  return members.get(userId)?.name ?? localName(userId);
}

export function titleOf(room: RoomRecord, nobody: string, list: (names: readonly string[]) => string): string {
  if (room.name) return room.name;
  const names = room.heroes.map((hero) => hero.displayname || localName(hero.user_id));
  return names.length > 0 ? list(names.slice(0, 4)) : nobody;
}

/** The picture of a room; of a talk between two, that of the other person. */
export function pictureOf(room: RoomRecord): string | undefined {
  return room.avatar ?? (room.heroes.length === 1 ? room.heroes[0]?.avatar_url : undefined);
}

/** Whose color a room has: a person keeps theirs in every room. */
export function tintOf(room: RoomRecord): string {
  return !room.name && room.heroes.length === 1 ? (room.heroes[0]?.user_id ?? room.roomId) : room.roomId;
}

export function initials(name: string): string {
  const letters = name.split(/[\s_.-]+/u).map((word) => [...word].find((one) => /[\p{L}\p{N}]/u.test(one))).filter(Boolean);
  const pair = letters.length > 1 ? [letters[0], letters.at(-1)] : letters.slice(0, 1);
  return pair.join("").toLocaleUpperCase();
}

/** A stable number below `kinds`, so that one person always has the same color. */
export function tint(id: string, kinds: number): number {
  let sum = 0;
  for (const one of id) sum = (sum * 31 + (one.codePointAt(0) ?? 0)) >>> 0;
  return sum % kinds;
}
