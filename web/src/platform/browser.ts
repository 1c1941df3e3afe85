// SPDX-License-Identifier: Apache-2.0
// Knows the browser behind the protocol: network, clock, other tabs.
import type { Surroundings } from "../protocol/client";

const LEADER = "parley.leader";
const CHANNEL = "parley";

export function browserSurroundings(): Surroundings {
  return {
    fetch: (input, init) => fetch(input, init),
    now: () => Date.now(),
    newId: () => crypto.randomUUID?.() ?? Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(36)).join("-"),
    later: (ms, run) => void setTimeout(run, ms),
    pause,
    whenLeading(lead, signal) {
      if (!("locks" in navigator)) {
        // Only over plain HTTP from another machine: then each tab is on its own.
        void lead(signal);
        return;
      }
      navigator.locks.request(LEADER, { signal }, () => lead(signal)).catch((error: unknown) => {
        if (!signal.aborted) throw error;
      });
    },
    channel(hear, signal) {
      const channel = new BroadcastChannel(CHANNEL);
      channel.onmessage = (event) => hear(event.data);
      signal.addEventListener("abort", () => channel.close());
      return (note) => {
        if (!signal.aborted) channel.postMessage(note);
      };
    },
    onOnline(run, signal) {
      addEventListener("online", run, { signal });
      document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && run(), { signal });
    },
  };
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener("online", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    addEventListener("online", done);
  });
}

/** What the server shows the person in their list of devices. */
export function deviceName(): string {
  const agent = navigator.userAgent;
  const browser = /Edg\//.test(agent) ? "Edge" : /Firefox\//.test(agent) ? "Firefox" : /Chrom(e|ium)\//.test(agent) ? "Chrome" : /Safari\//.test(agent) ? "Safari" : "Browser";
  const system = /Android/.test(agent) ? "Android" : /iPhone|iPad/.test(agent) ? "iOS" : /Mac OS X/.test(agent) ? "macOS" : /Windows/.test(agent) ? "Windows" : "Linux";
  return `Parley, ${browser} on ${system}`;
}
