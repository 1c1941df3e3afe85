// SPDX-License-Identifier: Apache-2.0
// Every theme can be read: contrast is computed from the tokens themselves, and styles use nothing but tokens.
import { readdirSync, readFileSync } from "node:fs";

import { expect, test } from "vitest";

const HERE = new URL("./", import.meta.url);
const css = readFileSync(new URL("tokens.css", HERE), "utf8");
const THEMES = ["light", "dark", "contrast", "contrast-dark"];
const TEXT = [
  "text/surface", "text/canvas-chat", "text-2/surface", "text-2/selected", "text-3/canvas", "text-3/sunken", "text-3/hover", "text-3/selected",
  "link/bubble-in", "brand/surface", "brand/brand-soft", "brand/selected", "on-brand/brand", "on-brand/brand-hover", "on-bubble-in/bubble-in", "text-3/bubble-in",
  "on-bubble-out/bubble-out", "on-bubble-out-2/bubble-out", "accent/surface", "danger/surface", "danger/danger-soft", "on-note/note", "on-badge/badge", "on-highlight/highlight",
];
const CONTROLS = ["line-control/surface", "line-control/canvas", "focus/surface", "focus/canvas-chat"];

function colors(theme: string): Map<string, string> {
  const start = css.indexOf(`[data-theme="${theme}"] {`);
  const block = css.slice(start, css.indexOf("}", start));
  return new Map([...block.matchAll(/--([\w-]+):\s*(#[0-9a-f]{6})/g)].map((found) => [found[1]!, found[2]!]));
}

function luminance(hex: string): number {
  const [r, g, b] = [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16) / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!;
}

function contrast(a: string, b: string): number {
  const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (light! + 0.05) / (dark! + 0.05);
}

test.each(THEMES)("%s has the contrast that WCAG AA asks for", (theme) => {
  const known = colors(theme);
  for (const [pairs, floor] of [[TEXT, 4.5], [CONTROLS, 3]] as const) {
    for (const pair of pairs) {
      const [front, back] = pair.split("/").map((name) => known.get(name)!);
      expect(contrast(front!, back!), pair).toBeGreaterThanOrEqual(floor);
    }
  }
});

test("styles use logical sides, and colors only where a person has one of their own", () => {
  for (const name of readdirSync(HERE).filter((one) => one.endsWith(".module.css"))) {
    const text = readFileSync(new URL(name, HERE), "utf8").replace(/\/\*.*?\*\//gs, "");
    expect(text.match(/(?<![\w-])(margin|padding|border)-(left|right)|(?<![\w-])(left|right):/g), name).toBeNull();
    if (name !== "Avatar.module.css") expect(text.match(/#[0-9a-f]{3,8}\b|rgb\(/gi), name).toBeNull();
  }
});
