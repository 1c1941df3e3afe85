// SPDX-License-Identifier: Apache-2.0
// Knows the dialog of settings: appearance, language, and signing out.
import { useState } from "react";

import { LANGUAGES, type Language } from "../i18n/locale";
import { setTheme, theme, THEMES, type Theme } from "../platform/preferences";
import type { Client } from "../protocol/client";
import type { Account } from "../viewmodels/account";
import { useLocale } from "./context";
import controls from "./controls.module.css";
import { Dialog } from "./Dialog";
import { Icon } from "./Icon";

interface Props {
  readonly account: Account;
  readonly client: Client;
  readonly speak: (code: Language) => void;
  readonly close: () => void;
}

export function Settings({ account, client, speak, close }: Props) {
  const { code, words } = useLocale();
  const [look, setLook] = useState<Theme>(theme);
  const choose = (one: Theme) => {
    setTheme(one);
    setLook(one);
  };
  return (
    <Dialog label={words.settings.title} close={close}>
      <div className={controls.sheet}>
        <div className={controls.titled}>
          <h2>{words.settings.title}</h2>
          <button type="button" className={controls.icon} aria-label={words.settings.close} onClick={close}>
            <Icon name="close" />
          </button>
        </div>
        <fieldset className={controls.choices}>
          <legend>{words.settings.theme}</legend>
          {THEMES.map((one) => (
            <label key={one} className={controls.choice}>
              <input type="radio" name="theme" checked={one === look} onChange={() => choose(one)} />
              {words.settings.themes[one]}
            </label>
          ))}
        </fieldset>
        <fieldset className={controls.choices}>
          <legend>{words.settings.language}</legend>
          {(Object.keys(LANGUAGES) as Language[]).map((one) => (
            <label key={one} className={controls.choice} lang={one}>
              <input type="radio" name="language" checked={one === code} onChange={() => speak(one)} />
              {LANGUAGES[one]}
            </label>
          ))}
        </fieldset>
        <p className={controls.lead}>
          {words.settings.account} <bdi>{client.session.userId}</bdi>
        </p>
        <SignOut account={account} />
      </div>
    </Dialog>
  );
}

/** Signs out at once, unless messages would be lost: then it asks. */
function SignOut({ account }: { account: Account }) {
  const { words } = useLocale();
  const [waiting, setWaiting] = useState(0);
  const press = async () => {
    const now = waiting > 0 ? 0 : await account.waiting();
    if (now > 0) setWaiting(now);
    else await account.signOut();
  };
  return (
    <>
      {waiting > 0 && (
        <p className={controls.trouble} role="alert">
          {words.settings.signOutWaiting(waiting)}
        </p>
      )}
      <div className={controls.actions}>
        <button type="button" className={`${controls.button} ${controls.danger}`} onClick={() => void press()}>
          {words.settings.signOut}
        </button>
      </div>
    </>
  );
}
