// SPDX-License-Identifier: Apache-2.0
// Knows the frame of the app: rail, list and conversation, and which of them a narrow screen shows.
import "@fontsource-variable/inter/wght.css";
import { useEffect, useMemo, useState } from "react";
import { Router, useLocation } from "wouter";
import { useHashLocation } from "wouter/use-hash-location";

import type { Language } from "../i18n/locale";
import { Pictures } from "../platform/pictures";
import type { Client } from "../protocol/client";
import type { Link } from "../protocol/sync";
import type { Account } from "../viewmodels/account";
import { Conversations } from "../viewmodels/conversations";
import { Chat } from "./Chat";
import { PicturesContext, useLocale, useValue } from "./context";
import { Icon, Logo } from "./Icon";
import { List } from "./List";
import { chatPath, roomOf } from "./routes";
import { Settings } from "./Settings";
import css from "./Shell.module.css";
import { StartChat } from "./StartChat";

interface Props {
  readonly account: Account;
  readonly client: Client;
  readonly speak: (code: Language) => void;
}

export default function Shell(props: Props) {
  return (
    <Router hook={useHashLocation}>
      <Frame {...props} />
    </Router>
  );
}

function Frame({ account, client, speak }: Props) {
  const locale = useLocale();
  const { words } = locale;
  const [path, go] = useLocation();
  const [dialog, setDialog] = useState<"settings" | "start">();
  const pictures = useMemo(() => new Pictures(client.api), [client]);
  const conversations = useConversations(client);
  const unread = useValue(conversations.unread);
  const roomId = roomOf(path);
  const close = () => setDialog(undefined);

  useEffect(() => () => pictures.forget(), [pictures]);
  useEffect(() => {
    document.title = unread > 0 ? `(${unread}) Parley` : "Parley";
  }, [unread]);

  return (
    <PicturesContext value={pictures}>
      <div className={css.app} data-open={roomId ? "chat" : "list"}>
        {roomId && (
          <a className={css.skip} href={`#${path}`} onClick={(event) => skip(event)}>
            {words.nav.skip}
          </a>
        )}
        <Strip client={client} />
        <nav className={css.rail} aria-label={words.nav.main}>
          <span className={css.logo}>
            <Logo />
          </span>
          <button type="button" className={css.nav} aria-current="page" onClick={() => go("/")}>
            <Icon name="chats" />
            {words.nav.chats}
            {unread > 0 && <span className={css.dot}>{unread > 99 ? "99+" : unread}</span>}
          </button>
          <span className={css.grow} />
          <button type="button" className={css.nav} aria-haspopup="dialog" onClick={() => setDialog("settings")}>
            <Icon name="settings" />
            {words.nav.settings}
          </button>
        </nav>
        <List className={css.list ?? ""} model={conversations} open={roomId} start={() => setDialog("start")} />
        <main className={css.chat}>
          {roomId ? <Chat key={`${roomId} ${locale.code}`} client={client} roomId={roomId} leave={() => go("/")} /> : <Nothing />}
        </main>
        {dialog === "settings" && <Settings account={account} client={client} speak={speak} close={close} />}
        {dialog === "start" && <StartChat client={client} close={close} open={(id) => go(chatPath(id))} />}
      </div>
    </PicturesContext>
  );
}

function skip(event: React.MouseEvent): void {
  event.preventDefault();
  document.querySelector("textarea")?.focus();
}

function useConversations(client: Client): Conversations {
  const locale = useLocale();
  const [model] = useState(() => new Conversations(client, locale, () => Date.now()));
  useEffect(() => {
    const loading = model.load();
    return () => void loading.then((stop) => stop());
  }, [model]);
  useEffect(() => model.setLocale(locale), [model, locale]);
  return model;
}

function Nothing() {
  const { words } = useLocale();
  return (
    <div className={css.empty}>
      <span className={css.art}>
        <Logo />
      </span>
      <h2>{words.chat.pick}</h2>
      <p>{words.chat.pickLead}</p>
    </div>
  );
}

/** Says that there is no connection, once that has lasted long enough to matter. */
function Strip({ client }: { client: Client }) {
  const { words } = useLocale();
  const [link, setLink] = useState<Link>("connecting");
  const [late, setLate] = useState(false);
  useEffect(() => client.subscribe((change) => change.link && setLink(change.link)), [client]);
  useEffect(() => {
    setLate(false);
    if (link !== "away") return;
    const timer = setTimeout(() => setLate(true), navigator.onLine ? 5_000 : 500);
    return () => clearTimeout(timer);
  }, [link]);
  if (!late) return null;
  return (
    <p className={css.strip} role="status">
      {navigator.onLine ? words.link.trouble : words.link.offline}
    </p>
  );
}
