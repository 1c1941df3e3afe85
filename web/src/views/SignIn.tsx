// SPDX-License-Identifier: Apache-2.0
// Knows the page on which a person signs in.
import { useId, useState, type SubmitEvent } from "react";

import type { Catalog } from "../i18n/catalog";
import { LANGUAGES, type Language } from "../i18n/locale";
import type { Account, Refusal } from "../viewmodels/account";
import { useLocale } from "./context";
import controls from "./controls.module.css";
import { Icon, Logo } from "./Icon";
import css from "./SignIn.module.css";

interface Props {
  readonly account: Account;
  readonly ended: boolean;
  readonly speak: (code: Language) => void;
}

export function SignIn({ account, ended, speak }: Props) {
  const { words } = useLocale();
  const [busy, setBusy] = useState(false);
  const [shown, setShown] = useState(false);
  const [refused, setRefused] = useState<Refusal>();
  const user = useId();
  const password = useId();

  const submit = async (event: SubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    setBusy(true);
    setRefused(undefined);
    setRefused(await account.signIn(String(form.get("username")), String(form.get("password"))));
    setBusy(false);
  };

  return (
    <main className={css.page}>
      <form className={css.card} onSubmit={(event) => void submit(event)}>
        <p className={css.brand}>
          <Logo />
          Parley
        </p>
        <div className={css.head}>
          <h1>{words.signIn.title}</h1>
          <p className={css.lead}>{ended ? words.signIn.signedOut : words.signIn.lead}</p>
        </div>
        <label className={controls.field} htmlFor={user}>
          {words.signIn.user}
          <input id={user} className={controls.input} name="username" autoComplete="username" autoCapitalize="none" spellCheck={false} required autoFocus />
        </label>
        <div className={controls.field}>
          <label htmlFor={password}>{words.signIn.password}</label>
          <div className={css.secret}>
            <input id={password} className={controls.input} name="password" type={shown ? "text" : "password"} autoComplete="current-password" required />
            <button type="button" className={controls.icon} aria-label={shown ? words.signIn.hide : words.signIn.show} aria-pressed={shown} onClick={() => setShown(!shown)}>
              <Icon name="eye" />
            </button>
          </div>
        </div>
        {refused && (
          <p className={controls.trouble} role="alert">
            {say(refused, words)}
          </p>
        )}
        <button type="submit" className={`${controls.button} ${controls.primary} ${css.submit}`} disabled={busy}>
          {busy ? words.signIn.busy : words.signIn.submit}
        </button>
      </form>
      <Languages speak={speak} />
    </main>
  );
}

function Languages({ speak }: { speak: (code: Language) => void }) {
  const { code, words } = useLocale();
  return (
    <nav className={css.languages} aria-label={words.settings.language}>
      {(Object.keys(LANGUAGES) as Language[]).map((one) => (
        <button key={one} type="button" lang={one} aria-pressed={one === code} onClick={() => speak(one)}>
          {LANGUAGES[one]}
        </button>
      ))}
    </nav>
  );
}

function say(refusal: Refusal, words: Catalog): string {
  return refusal.kind === "refused" ? words.signIn.refused(refusal.reason) : words.signIn[refusal.kind];
}
