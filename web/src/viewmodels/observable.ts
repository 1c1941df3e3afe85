// SPDX-License-Identifier: Apache-2.0
// Knows how a view learns that a value changed, without knowing the view.

export interface Readable<T> {
  get(): T;
  subscribe(listener: () => void): () => void;
}

export class Value<T> implements Readable<T> {
  private readonly listeners = new Set<() => void>();

  constructor(private current: T) {}

  readonly get = (): T => this.current;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  set(next: T): void {
    if (Object.is(next, this.current)) return;
    this.current = next;
    for (const listener of this.listeners) listener();
  }
}
