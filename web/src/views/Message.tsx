// SPDX-License-Identifier: Apache-2.0
// Knows how one message looks, from being sent to being read.
import { memo, type ReactNode } from "react";

import type { Conversation } from "../viewmodels/conversation";
import type { Bubble, Status } from "../viewmodels/log";
import { Avatar } from "./Avatar";
import { useLocale } from "./context";
import { Icon, type IconName } from "./Icon";
import css from "./Log.module.css";

interface Props {
  readonly bubble: Bubble;
  readonly many: boolean;
  readonly model: Conversation;
  readonly rewrite: (text: string) => void;
}

const ICONS: Readonly<Record<Status, IconName>> = { sending: "clock", queued: "clock", failed: "alert", sent: "tick", read: "ticks" };

export const Message = memo(function Message({ bubble, many, model, rewrite }: Props) {
  const pending = bubble.status === "sending" || bubble.status === "queued";
  const classes = [
    css.item,
    css.message,
    bubble.mine ? css.out : css.in,
    bubble.first ? css.first : "",
    bubble.last ? css.last : "",
    pending ? css.pending : "",
    bubble.status === "failed" ? css.failed : "",
    bubble.outboxId === undefined ? "" : css.arrive,
  ];
  const tone = bubble.tone === "quiet" ? css.quiet : bubble.tone === "emoji" ? css.emoji : "";
  return (
    <article className={classes.join(" ")}>
      {!bubble.mine && bubble.first && (
        <span className={css.face}>
          <Avatar id={bubble.sender} name={bubble.name} picture={bubble.picture} size="small" />
        </span>
      )}
      {!bubble.mine && bubble.first && many ? <bdi className={css.name}>{bubble.name}</bdi> : <span className="vh">{bubble.name}</span>}
      <div className={`${css.bubble} ${tone}`} dir="auto">
        {bubble.tone === "emote" && <>* {bubble.name} </>}
        {bubble.tone === "emoji" ? <span className={css.big}>{bubble.text}</span> : linked(bubble.text)}
        <Meta bubble={bubble} />
      </div>
      {bubble.status === "failed" && bubble.outboxId !== undefined && <Trouble id={bubble.outboxId} model={model} rewrite={rewrite} />}
    </article>
  );
});

function Meta({ bubble }: { bubble: Bubble }) {
  const locale = useLocale();
  const { words } = locale;
  const { status } = bubble;
  const label = status && {
    sending: words.message.sending,
    queued: words.message.queued,
    failed: words.message.notSent,
    sent: words.message.sent,
    read: bubble.readers.length > 0 ? words.message.readBy(locale.names(bubble.readers)) : words.message.read,
  }[status];
  return (
    <span className={css.meta} title={label} dir="ltr">
      {bubble.edited && `${words.message.edited} · `}
      <time dateTime={new Date(bubble.at).toISOString()}>{bubble.time}</time>
      {status && <Icon name={ICONS[status]} />}
      {label && <span className="vh">{label}</span>}
    </span>
  );
}

function Trouble({ id, model, rewrite }: { id: number; model: Conversation; rewrite: (text: string) => void }) {
  const { words } = useLocale();
  return (
    <p className={css.trouble} role="alert">
      {words.message.notSent}
      <button type="button" onClick={() => void model.retry(id)}>
        {words.message.retry}
      </button>
      <button type="button" onClick={() => void model.drop(id).then(rewrite)}>
        {words.message.edit}
      </button>
      <button type="button" onClick={() => void model.drop(id)}>
        {words.message.remove}
      </button>
    </p>
  );
}

const LINK = /https?:\/\/[^\s<>"']*[^\s<>"'.,;:!?)\]}]/giu;

/** Web addresses in a text become links; nothing else of it is interpreted. */
function linked(text: string): ReactNode[] {
  const parts: ReactNode[] = [];
  let at = 0;
  for (const found of text.matchAll(LINK)) {
    parts.push(text.slice(at, found.index));
    parts.push(
      <a key={found.index} href={found[0]} target="_blank" rel="noopener noreferrer nofollow">
        {found[0]}
      </a>,
    );
    at = found.index + found[0].length;
  }
  parts.push(text.slice(at));
  return parts;
}
