// SPDX-License-Identifier: Apache-2.0
// Knows how the log scrolls: it stays at the newest message, and does not move when history comes in above.
import { useEffect, useLayoutEffect, useRef, useState } from "react";
import { Virtualizer, type VirtualizerHandle } from "virtua";

import type { Conversation, View } from "../viewmodels/conversation";
import type { Item } from "../viewmodels/log";
import { useLocale } from "./context";
import { Icon } from "./Icon";
import css from "./Log.module.css";
import { Message } from "./Message";

interface Props {
  readonly model: Conversation;
  readonly view: View;
  readonly rewrite: (text: string) => void;
}

/** This near to the end counts as being there; this near to the start asks for more. */
const NEAR_END = 80;
const NEAR_START = 600;

export function Log({ model, view, rewrite }: Props) {
  const { words } = useLocale();
  const list = useRef<VirtualizerHandle>(null);
  const scroller = useRef<HTMLDivElement>(null);
  const [atEnd, setAtEnd] = useState(true);
  const follow = useRef(true);
  const { items, older, prepends } = view;
  const shown = useRef(prepends);
  const shift = shown.current !== prepends;
  const mine = useMine(items);

  const toEnd = () => {
    const element = scroller.current;
    if (element) element.scrollTop = element.scrollHeight;
  };
  const look = () => {
    const element = scroller.current;
    if (!element) return;
    const rest = element.scrollHeight - element.scrollTop - element.clientHeight;
    follow.current = rest < NEAR_END;
    setAtEnd(rest < NEAR_END);
    if (rest < NEAR_END) noteSeen(model);
    if (element.scrollTop < NEAR_START && older === "there") void model.fetchOlder();
  };

  useLayoutEffect(() => {
    shown.current = prepends;
  }, [prepends]);
  useLayoutEffect(() => {
    if (!follow.current && !mine) return;
    list.current?.scrollToIndex(items.length - 1, { align: "end" });
    const frame = requestAnimationFrame(toEnd);
    return () => cancelAnimationFrame(frame);
  }, [items, mine]);
  useEffect(look, [items, older]);
  useEffect(() => {
    const element = scroller.current;
    if (!element) return;
    const watch = new ResizeObserver(() => follow.current && toEnd());
    watch.observe(element);
    const back = () => document.visibilityState === "visible" && look();
    document.addEventListener("visibilitychange", back);
    return () => {
      watch.disconnect();
      document.removeEventListener("visibilitychange", back);
    };
  });

  return (
    <div className={`${css.place} ${view.head.many ? css.many : ""}`}>
      <div ref={scroller} className={css.scroll} tabIndex={0} role="region" aria-label={words.chat.messages} onScroll={look}>
        <div className={css.fill} />
        <Virtualizer ref={list} bufferSize={800} shift={shift} scrollRef={scroller} data={items}>
          {(item) => <ItemView key={item.key} item={item} many={view.head.many} model={model} rewrite={rewrite} />}
        </Virtualizer>
        <div className={css.foot} />
      </div>
      <Older model={model} older={older} />
      {!atEnd && (
        <button type="button" className={css.jump} aria-label={words.chat.jump} onClick={toEnd}>
          <Icon name="down" />
        </button>
      )}
      <Announcer items={items} />
    </div>
  );
}

function noteSeen(model: Conversation): void {
  if (document.visibilityState === "visible" && document.hasFocus()) void model.seen();
}

/** Whether the last item is a new one of the person's own: sending brings them to it. */
function useMine(items: readonly Item[]): boolean {
  const last = items.at(-1);
  const before = useRef(last?.key);
  const fresh = last?.kind === "bubble" && last.mine && last.outboxId !== undefined && before.current !== last.key;
  useEffect(() => {
    before.current = last?.key;
  });
  return fresh;
}

interface ItemProps {
  readonly item: Item;
  readonly many: boolean;
  readonly model: Conversation;
  readonly rewrite: (text: string) => void;
}

function ItemView({ item, many, model, rewrite }: ItemProps) {
  const { words } = useLocale();
  switch (item.kind) {
    case "day":
      return (
        <div className={`${css.item} ${css.day}`}>
          <span>{item.text}</span>
        </div>
      );
    case "system":
      return (
        <p className={`${css.item} ${css.system}`} dir="auto">
          {item.text}
        </p>
      );
    case "new":
      return (
        <div className={`${css.item} ${css.new}`} role="separator">
          {words.chat.newMessages}
        </div>
      );
    case "bubble":
      return <Message bubble={item} many={many} model={model} rewrite={rewrite} />;
  }
}

function Older({ model, older }: { model: Conversation; older: View["older"] }) {
  const { words } = useLocale();
  const [late, setLate] = useState(false);
  useEffect(() => {
    setLate(false);
    if (older !== "fetching") return;
    const timer = setTimeout(() => setLate(true), 400);
    return () => clearTimeout(timer);
  }, [older]);
  if (older === "failed") {
    return (
      <div className={css.older}>
        <p role="alert">
          {words.chat.olderFailed}
          <button type="button" onClick={() => void model.fetchOlder()}>
            {words.chat.again}
          </button>
        </p>
      </div>
    );
  }
  if (older !== "fetching" || !late) return null;
  return (
    <div className={css.older}>
      <p role="status">{words.chat.older}</p>
    </div>
  );
}

/** Says new messages of others to screen readers, without reading out the history. */
function Announcer({ items }: { items: readonly Item[] }) {
  const last = items.at(-1);
  const heard = useRef(last?.key);
  const [said, setSaid] = useState("");
  useEffect(() => {
    if (last?.key === heard.current) return;
    heard.current = last?.key;
    if (last?.kind === "bubble" && !last.mine) setSaid(`${last.name}: ${last.text}`);
  }, [last]);
  return (
    <p className="vh" aria-live="polite">
      {said}
    </p>
  );
}
