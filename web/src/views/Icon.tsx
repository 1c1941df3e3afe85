// SPDX-License-Identifier: Apache-2.0
// Knows how each icon is drawn.
import css from "./Icon.module.css";

const PATHS = {
  chats: "M4 6.8A2.8 2.8 0 0 1 6.8 4h10.4A2.8 2.8 0 0 1 20 6.8v7.4a2.8 2.8 0 0 1-2.8 2.8H11l-4.6 3.4V17A2.6 2.6 0 0 1 4 14.2Z",
  write: "M13.5 6.2 5 14.7V19h4.3l8.5-8.5M13.5 6.2l1.7-1.7a1.6 1.6 0 0 1 2.3 0l2 2a1.6 1.6 0 0 1 0 2.3l-1.7 1.7M13.5 6.2l4.3 4.3",
  search: "M16.8 10.8a6 6 0 1 1-12 0 6 6 0 0 1 12 0ZM15.4 15.4l4.3 4.3",
  back: "M14.5 5.5 8 12l6.5 6.5",
  down: "m5.5 9 6.5 6.5L18.5 9",
  send: "M5 12 4 5.2a.8.8 0 0 1 1.1-.8l14.4 6.9a.8.8 0 0 1 0 1.4L5.1 19.6a.8.8 0 0 1-1.1-.8L5 12Zm0 0h7",
  tick: "m5.5 12.5 4 4 9-9",
  ticks: "m2.8 12.6 3.8 3.8 8.6-8.6M10.8 15.4l1 1 8.6-8.6",
  clock: "M20 12a8 8 0 1 1-16 0 8 8 0 0 1 16 0ZM12 7.6V12l2.8 1.8",
  alert: "M20 12a8 8 0 1 1-16 0 8 8 0 0 1 16 0ZM12 8v4.6M12 15.8v.1",
  lock: "M7 10.5h10a1.5 1.5 0 0 1 1.5 1.5v6a1.5 1.5 0 0 1-1.5 1.5H7A1.5 1.5 0 0 1 5.5 18v-6A1.5 1.5 0 0 1 7 10.5Zm1.5 0V8a3.5 3.5 0 0 1 7 0v2.5",
  close: "m6.5 6.5 11 11m0-11-11 11",
  eye: "M3.5 12S6.6 6.2 12 6.2s8.5 5.8 8.5 5.8S17.4 17.8 12 17.8 3.5 12 3.5 12Zm11 0a2.5 2.5 0 1 1-5 0 2.5 2.5 0 0 1 5 0Z",
  settings: "M14.8 12a2.8 2.8 0 1 1-5.6 0 2.8 2.8 0 0 1 5.6 0ZM12 3.5v2.2m0 12.6v2.2m8.5-8.5h-2.2M5.7 12H3.5m14.5-6-1.6 1.6M7.6 16.4 6 18m12 0-1.6-1.6M7.6 7.6 6 6",
} as const;

export type IconName = keyof typeof PATHS;
const FLIPS: ReadonlySet<IconName> = new Set(["back", "send"]);

export function Icon({ name, small }: { name: IconName; small?: boolean }) {
  const classes = [css.icon, small ? css.small : "", FLIPS.has(name) ? css.flips : ""].join(" ");
  return (
    <svg className={classes} viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

export function Logo() {
  return (
    <svg className={css.logo} viewBox="0 0 32 32" aria-hidden="true">
      <path className={css.logoFill} d="M4 11a7 7 0 0 1 7-7h7a7 7 0 0 1 0 14h-6l-5.5 4.2V17A7 7 0 0 1 4 11Z" />
      <path className={css.logoLine} d="M21.5 12.5A6.5 6.5 0 0 1 25.5 24v4.5L20.8 25H17a6.5 6.5 0 0 1-6.2-4.6" />
    </svg>
  );
}
