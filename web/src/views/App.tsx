// SPDX-License-Identifier: Apache-2.0
// Knows which page a person sees: sign-in, or the app, which is fetched only then.
import { Component, lazy, Suspense, useEffect, useState, type ReactNode } from "react";

import { loadLocale, type Language, type Locale } from "../i18n/locale";
import { setLanguage } from "../platform/preferences";
import type { Account } from "../viewmodels/account";
import { LocaleContext, useLocale, useValue } from "./context";
import controls from "./controls.module.css";
import css from "./SignIn.module.css";
import { SignIn } from "./SignIn";

const Shell = lazy(() => import("./Shell"));

export function App({ account, first }: { account: Account; first: Locale }) {
  const [locale, setLocale] = useState(first);
  const state = useValue(account.state);
  useEffect(() => {
    document.documentElement.lang = locale.code;
    document.documentElement.dir = locale.words.direction;
  }, [locale]);
  const speak = (code: Language) => {
    setLanguage(code);
    void loadLocale(code).then(setLocale);
  };
  return (
    <LocaleContext value={locale}>
      <Fault>
        {state.at === "signedOut" && <SignIn account={account} ended={state.ended} speak={speak} />}
        {state.at === "signedIn" && (
          <Suspense>
            <Shell key={state.client.session.deviceId} account={account} client={state.client} speak={speak} />
          </Suspense>
        )}
      </Fault>
    </LocaleContext>
  );
}

/** A view that breaks takes nothing else with it. */
class Fault extends Component<{ children: ReactNode }, { broken: boolean }> {
  override state = { broken: false };

  static getDerivedStateFromError() {
    return { broken: true };
  }

  override render() {
    return this.state.broken ? <Stumbled /> : this.props.children;
  }
}

function Stumbled() {
  const { words } = useLocale();
  return (
    <main className={css.page} role="alert">
      <div className={css.card}>
        <h1>{words.fault.title}</h1>
        <button type="button" className={`${controls.button} ${controls.primary}`} onClick={() => location.reload()}>
          {words.fault.reload}
        </button>
      </div>
    </main>
  );
}
