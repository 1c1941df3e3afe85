// SPDX-License-Identifier: Apache-2.0
// Knows where the unit tests are: beside what they test.
import { defineConfig } from "vitest/config";

export default defineConfig({ test: { include: ["src/**/*.test.ts"], environment: "node" } });
