// SPDX-License-Identifier: Apache-2.0
// Knows how a dialog opens, holds the focus and is left; the browser's own element does most of it.
import { useEffect, useRef, type ReactNode } from "react";

import controls from "./controls.module.css";

export function Dialog({ label, close, children }: { label: string; close: () => void; children: ReactNode }) {
  const element = useRef<HTMLDialogElement>(null);
  useEffect(() => element.current?.showModal(), []);
  return (
    <dialog
      ref={element}
      className={controls.dialog}
      aria-label={label}
      onClose={close}
      onClick={(event) => event.target === element.current && element.current?.close()}
    >
      {children}
    </dialog>
  );
}
