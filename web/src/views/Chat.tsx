// SPDX-License-Identifier: Apache-2.0
// Knows how one conversation looks: its head, the log, and what stands in the place of the composer.
import { useEffect, useState } from "react";

import type { Client } from "../protocol/client";
import { Conversation, type Head } from "../viewmodels/conversation";
import { Avatar } from "./Avatar";
import css from "./Chat.module.css";
import { Composer } from "./Composer";
import { useLocale, useValue } from "./context";
import controls from "./controls.module.css";
import { Icon } from "./Icon";
import { Log } from "./Log";

interface Props {
  readonly client: Client;
  readonly roomId: string;
  readonly leave: () => void;
}

export function Chat({ client, roomId, leave }: Props) {
  const locale = useLocale();
  const { words } = locale;
  const [model] = useState(() => new Conversation(client, roomId, locale, () => Date.now()));
  const [text, setText] = useState<string>();
  const view = useValue(model.view);
  useEffect(() => model.open(), [model]);
  useEffect(() => void model.draft().then(setText), [model]);
  if (!view) return null;
  const { head } = view;
  return (
    <>
      <header className={css.head}>
        <button type="button" className={`${controls.icon} ${css.back}`} aria-label={words.chat.back} onClick={leave}>
          <Icon name="back" />
        </button>
        {head.title && <Avatar id={head.tint} name={head.title} picture={head.picture} size="medium" />}
        <div className={css.who}>
          <h2 dir="auto">{head.title}</h2>
          <p>{head.subtitle}</p>
        </div>
      </header>
      {head.standing === "invited" ? (
        <Invitation model={model} head={head} leave={leave} />
      ) : (
        <>
          <Log model={model} view={view} rewrite={setText} />
          {head.standing === "open" && text !== undefined && (
            <Composer model={model} name={head.title} text={text} setText={setText} />
          )}
          {head.standing === "encrypted" && <p className={css.closed}>{words.chat.encrypted}</p>}
          {head.standing === "gone" && <p className={css.closed}>{words.chat.gone}</p>}
        </>
      )}
    </>
  );
}

function Invitation({ model, head, leave }: { model: Conversation; head: Head; leave: () => void }) {
  const { words } = useLocale();
  const [busy, setBusy] = useState(false);
  const trouble = useValue(model.trouble);
  const answer = async (run: () => Promise<void>) => {
    setBusy(true);
    await run();
    setBusy(false);
  };
  return (
    <section className={css.invite}>
      <Avatar id={head.tint} name={head.title} picture={head.picture} size="huge" />
      <h3>{words.chat.inviteTitle(head.inviter || head.title)}</h3>
      <p>{words.chat.inviteLead}</p>
      {trouble && (
        <p className={controls.trouble} role="alert">
          {words.chat.failed}
        </p>
      )}
      <div>
        <button type="button" className={`${controls.button} ${controls.primary}`} disabled={busy} onClick={() => void answer(() => model.accept())}>
          {words.chat.accept}
        </button>
        <button type="button" className={controls.button} disabled={busy} onClick={() => void answer(() => model.decline()).then(leave)}>
          {words.chat.decline}
        </button>
      </div>
    </section>
  );
}
