// SPDX-License-Identifier: Apache-2.0
// Knows how pictures that need the access token become addresses that an <img> can show.
import type { Api } from "../protocol/api";

const KEPT = 400;
const ALLOWED = new Set(["image/png", "image/jpeg", "image/webp", "image/gif", "image/avif"]);

export class Pictures {
  private readonly kept = new Map<string, Promise<string | undefined>>();

  constructor(private readonly api: Api) {}

  /** The address of a small square picture; undefined when there is none to show. */
  small(mxc: string): Promise<string | undefined> {
    const had = this.kept.get(mxc);
    if (had) return had;
    const loading = this.load(mxc);
    this.kept.set(mxc, loading);
    if (this.kept.size > KEPT) this.dropOldest();
    return loading;
  }

  forget(): void {
    while (this.kept.size > 0) this.dropOldest();
  }

  private async load(mxc: string): Promise<string | undefined> {
    try {
      const blob = await this.api.thumbnail(mxc, 96);
      return ALLOWED.has(blob.type) ? URL.createObjectURL(blob) : undefined;
    } catch {
      this.kept.delete(mxc);
      return undefined;
    }
  }

  private dropOldest(): void {
    const [key, value] = this.kept.entries().next().value ?? [];
    if (key === undefined) return;
    this.kept.delete(key);
    void value?.then((url) => url && URL.revokeObjectURL(url));
  }
}
