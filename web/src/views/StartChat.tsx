// SPDX-License-Identifier: Apache-2.0
// Knows the dialog that opens a conversation with a person.
import { useState, type SubmitEvent } from "react";

import type { Client } from "../protocol/client";
import { reasonOf } from "../viewmodels/conversation";
import { useLocale } from "./context";
import controls from "./controls.module.css";
import { Dialog } from "./Dialog";

export function StartChat({ client, close, open }: { client: Client; close: () => void; open: (roomId: string) => void }) {
  const { words } = useLocale();
  const [busy, setBusy] = useState(false);
  const [failed, setFailed] = useState<string>();
  const submit = async (event: SubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    const userId = String(new FormData(event.currentTarget).get("user")).trim();
    setBusy(true);
    setFailed(undefined);
    try {
      open(await client.startDirect(userId));
      close();
    } catch (error) {
      setFailed(reasonOf(error) || words.signIn.unreachable);
      setBusy(false);
    }
  };
  return (
    <Dialog label={words.start.title} close={close}>
      <form className={controls.sheet} onSubmit={(event) => void submit(event)}>
        <h2>{words.start.title}</h2>
        <p className={controls.lead}>{words.start.lead}</p>
        <label className={controls.field}>
          {words.start.user}
          <input className={controls.input} name="user" required pattern="\s*@[^:\s]+:\S+\s*" autoCapitalize="none" spellCheck={false} autoComplete="off" autoFocus />
        </label>
        {failed && (
          <p className={controls.trouble} role="alert">
            {words.start.failed(failed)}
          </p>
        )}
        <div className={controls.actions}>
          <button type="button" className={`${controls.button} ${controls.quiet}`} onClick={close}>
            {words.start.cancel}
          </button>
          <button type="submit" className={`${controls.button} ${controls.primary}`} disabled={busy}>
            {words.start.submit}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
