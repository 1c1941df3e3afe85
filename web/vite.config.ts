// SPDX-License-Identifier: Apache-2.0
// Knows how the sources become files that a strict Content-Security-Policy lets run.
import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

const LAYERS = "@layer reset, tokens, base, components, utilities;";

/** Whichever style sheet arrives first says the order of the layers. */
function layersFirst(): Plugin {
  return {
    name: "layers-first",
    generateBundle(_options, bundle) {
      for (const file of Object.values(bundle)) {
        if (file.type === "asset" && file.fileName.endsWith(".css")) file.source = `${LAYERS}${String(file.source)}`;
      }
    },
  };
}

export default defineConfig({
  plugins: [react(), layersFirst()],
  base: "./",
  build: { target: "es2022", assetsInlineLimit: 0, modulePreload: { polyfill: false }, reportCompressedSize: true },
  css: { modules: { localsConvention: "camelCaseOnly" } },
});
