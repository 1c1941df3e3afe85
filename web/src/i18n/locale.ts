// SPDX-License-Identifier: Apache-2.0
// Knows which languages there are, and how times and lists are written in the one that is spoken.
import type { Catalog } from "./catalog";
import { en } from "./en";

export const LANGUAGES = { en: "English", de: "Deutsch" } as const;
export type Language = keyof typeof LANGUAGES;

export interface Locale {
  readonly code: Language;
  readonly words: Catalog;
  clock(ts: number): string;
  /** Short, for the list: the time today, the weekday this week, else the date. */
  brief(ts: number, now: number): string;
  /** The heading of a day in the log. */
  day(ts: number, now: number): string;
  names(names: readonly string[]): string;
}

export function match(wanted: readonly string[]): Language {
  for (const one of wanted) {
    const code = one.toLowerCase().split("-")[0];
    if (code && code in LANGUAGES) return code as Language;
  }
  return "en";
}

/** English is there at once; other catalogs are fetched. */
export async function loadLocale(code: Language): Promise<Locale> {
  const words = code === "de" ? (await import("./de")).de : en;
  return locale(code, words);
}

export function locale(code: Language, words: Catalog): Locale {
  const clock = new Intl.DateTimeFormat(code, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const weekday = new Intl.DateTimeFormat(code, { weekday: "short" });
  const date = new Intl.DateTimeFormat(code, { day: "numeric", month: "short" });
  const dated = new Intl.DateTimeFormat(code, { day: "numeric", month: "short", year: "2-digit" });
  const whole = new Intl.DateTimeFormat(code, { weekday: "long", day: "numeric", month: "long" });
  const past = new Intl.DateTimeFormat(code, { day: "numeric", month: "long", year: "numeric" });
  const list = new Intl.ListFormat(code, { type: "conjunction" });
  return {
    code,
    words,
    clock: (ts) => clock.format(ts),
    brief(ts, now) {
      const days = daysBetween(ts, now);
      if (days <= 0) return clock.format(ts);
      if (days < 7) return weekday.format(ts);
      return (sameYear(ts, now) ? date : dated).format(ts);
    },
    day(ts, now) {
      const days = daysBetween(ts, now);
      if (days <= 0) return words.days.today;
      if (days === 1) return words.days.yesterday;
      return (sameYear(ts, now) ? whole : past).format(ts);
    },
    names: (names) => list.format(names),
  };
}

export function daysBetween(ts: number, now: number): number {
  return Math.round((midnight(now) - midnight(ts)) / 86_400_000);
}

function midnight(ts: number): number {
  return new Date(ts).setHours(0, 0, 0, 0);
}

function sameYear(a: number, b: number): boolean {
  return new Date(a).getFullYear() === new Date(b).getFullYear();
}
