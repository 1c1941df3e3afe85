// SPDX-License-Identifier: Apache-2.0
// Knows how views reach the language and the pictures, and how they follow a value.
import { createContext, useContext, useSyncExternalStore } from "react";

import type { Locale } from "../i18n/locale";
import type { Pictures } from "../platform/pictures";
import type { Readable } from "../viewmodels/observable";

export const LocaleContext = createContext<Locale | undefined>(undefined);
export const PicturesContext = createContext<Pictures | undefined>(undefined);

export function useLocale(): Locale {
  const locale = useContext(LocaleContext);
  if (!locale) throw new Error("no locale above this view");
  return locale;
}

export function useValue<T>(value: Readable<T>): T {
  return useSyncExternalStore(value.subscribe, value.get);
}
