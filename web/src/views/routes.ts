// SPDX-License-Identifier: Apache-2.0
// Knows the addresses of the app. They are behind the `#`, so that any server can serve it and none learns who talks where.

export function chatPath(roomId: string): string {
  return `/chat/${encodeURIComponent(roomId)}`;
}

export function roomOf(path: string): string | undefined {
  const found = /^\/chat\/([^/]+)$/.exec(path);
  try {
    return found?.[1] && decodeURIComponent(found[1]);
  } catch {
    return undefined;
  }
}
