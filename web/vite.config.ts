// SPDX-License-Identifier: Apache-2.0
// Knows how the sources become files that a strict Content-Security-Policy lets run.
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [react()],
  base: "./",
  build: { target: "es2022", assetsInlineLimit: 0, modulePreload: { polyfill: false }, reportCompressedSize: true },
  css: { modules: { localsConvention: "camelCaseOnly" } },
});
