// SPDX-License-Identifier: Apache-2.0
// Knows how the app is put together: the composition root of the browser.
// The order of the cascade layers is declared in tokens.css: it comes before every module of styles.
import "./views/tokens.css";
import "./views/base.css";
import { createRoot } from "react-dom/client";

import { loadLocale, match } from "./i18n/locale";
import { browserSurroundings, deviceName } from "./platform/browser";
import { languages } from "./platform/preferences";
import { Account } from "./viewmodels/account";
import { App } from "./views/App";

const place = document.getElementById("app");
if (!place) throw new Error("the page has no place for the app");

const [account, locale] = await Promise.all([
  Account.open(browserSurroundings(), location.origin, deviceName()),
  loadLocale(match(languages())),
]);
createRoot(place).render(<App account={account} first={locale} />);
