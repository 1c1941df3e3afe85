// SPDX-License-Identifier: Apache-2.0
// Knows what this browser was told to look like; `public/theme.js` reads the same key before the first paint.

export const THEMES = ["system", "light", "dark", "contrast", "contrast-dark"] as const;
export type Theme = (typeof THEMES)[number];

const THEME = "parley.theme";
const LANGUAGE = "parley.language";

function read(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

function write(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // Storage may be forbidden: then the choice lasts until the page is closed.
  }
}

export function theme(): Theme {
  const value = read(THEME);
  return THEMES.find((one) => one === value) ?? "system";
}

export function setTheme(value: Theme): void {
  write(THEME, value);
  if (value === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = value;
}

/** The languages to try, the wanted one first. */
export function languages(): readonly string[] {
  const chosen = read(LANGUAGE);
  return chosen ? [chosen, ...navigator.languages] : navigator.languages;
}

export function setLanguage(value: string): void {
  write(LANGUAGE, value);
}
