// SPDX-License-Identifier: Apache-2.0
// Knows the field in which a message is written. Enter sends; Shift and Enter begins a line.
import { useEffect, useRef, type KeyboardEvent, type SubmitEvent } from "react";

import type { Conversation } from "../viewmodels/conversation";
import css from "./Composer.module.css";
import { useLocale } from "./context";
import { Icon } from "./Icon";

interface Props {
  readonly model: Conversation;
  readonly name: string;
  readonly text: string;
  readonly setText: (text: string) => void;
}

const DRAFT_AFTER = 400;
const TALLEST = 8;

export function Composer({ model, name, text, setText }: Props) {
  const { words } = useLocale();
  const field = useRef<HTMLTextAreaElement>(null);
  const draft = useDraft(model);
  useEffect(() => {
    if (matchMedia("(pointer: fine)").matches) field.current?.focus();
  }, []);

  const write = (value: string) => {
    setText(value);
    draft.keep(value);
  };
  const send = () => {
    if (text.trim() === "") return;
    draft.cancel();
    setText("");
    void model.send(text);
    field.current?.focus();
  };
  const press = (event: KeyboardEvent) => {
    if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
    event.preventDefault();
    send();
  };
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    send();
  };
  // Where the browser cannot size the field by its content, lines are counted.
  const rows = CSS.supports("field-sizing", "content") ? 1 : Math.min(text.split("\n").length, TALLEST);

  return (
    <form className={css.composer} onSubmit={submit}>
      <textarea
        ref={field}
        className={css.field}
        dir="auto"
        rows={rows}
        value={text}
        placeholder={words.composer.placeholder(name)}
        aria-label={words.composer.label(name)}
        enterKeyHint="send"
        onChange={(event) => write(event.target.value)}
        onKeyDown={press}
      />
      <button type="submit" className={css.send} aria-label={words.composer.send} disabled={text.trim() === ""}>
        <Icon name="send" />
      </button>
    </form>
  );
}

/** Keeps what is written, a moment after the last key and when the conversation is left. */
function useDraft(model: Conversation): { keep: (text: string) => void; cancel: () => void } {
  const waiting = useRef<{ timer: number; text: string }>(undefined);
  const cancel = () => {
    clearTimeout(waiting.current?.timer);
    waiting.current = undefined;
  };
  const save = () => {
    const text = waiting.current?.text;
    cancel();
    if (text !== undefined) void model.keepDraft(text);
  };
  useEffect(() => save, [model]);
  const keep = (text: string) => {
    cancel();
    waiting.current = { timer: window.setTimeout(save, DRAFT_AFTER), text };
  };
  return { keep, cancel };
}
