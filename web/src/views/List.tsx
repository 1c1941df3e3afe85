// SPDX-License-Identifier: Apache-2.0
// Knows how the list of conversations looks and how the keyboard moves in it.
import { memo, useEffect, useState, type KeyboardEvent } from "react";
import { VList } from "virtua";

import type { Conversations, Row } from "../viewmodels/conversations";
import { Avatar } from "./Avatar";
import { useLocale, useValue } from "./context";
import controls from "./controls.module.css";
import { Icon } from "./Icon";
import css from "./List.module.css";
import { chatPath } from "./routes";

interface Props {
  readonly className: string;
  readonly model: Conversations;
  readonly open: string | undefined;
  readonly start: () => void;
}

export function List({ className, model, open, start }: Props) {
  const { words } = useLocale();
  const rows = useValue(model.rows);
  const query = useValue(model.query);
  const filter = useValue(model.filter);
  const unread = useValue(model.unread);
  return (
    <section className={className} aria-label={words.list.label}>
      <header className={css.head}>
        <h1>{words.list.title}</h1>
        <button type="button" className={controls.icon} aria-label={words.list.new} title={words.list.new} onClick={start}>
          <Icon name="write" />
        </button>
      </header>
      <label className={css.search}>
        <Icon name="search" />
        <input
          type="search"
          value={query}
          placeholder={words.list.search}
          aria-label={words.list.search}
          onChange={(event) => model.setQuery(event.target.value)}
          onKeyDown={(event) => event.key === "Escape" && model.setQuery("")}
        />
      </label>
      <div className={css.chips} role="group" aria-label={words.list.filters}>
        <button type="button" className={css.chip} aria-pressed={filter === "all"} onClick={() => model.setFilter("all")}>
          {words.list.all}
        </button>
        <button type="button" className={css.chip} aria-pressed={filter === "unread"} onClick={() => model.setFilter("unread")}>
          {words.list.unread}
          {unread > 0 && <b>{unread}</b>}
        </button>
      </div>
      {rows && rows.length > 0 ? (
        <VList className={css.rows} data={rows} itemSize={76} onKeyDown={move}>
          {(row) => <RowView key={row.roomId} row={row} current={row.roomId === open} />}
        </VList>
      ) : (
        <Nothing model={model} known={rows !== undefined} start={start} />
      )}
    </section>
  );
}

/** Arrow keys go from row to row. */
function move(event: KeyboardEvent<HTMLElement>): void {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  const links = [...event.currentTarget.querySelectorAll<HTMLElement>("a")];
  const at = links.indexOf(document.activeElement as HTMLElement);
  const next = links[at + step];
  if (!next) return;
  event.preventDefault();
  next.focus();
}

const RowView = memo(function RowView({ row, current }: { row: Row; current: boolean }) {
  const { words } = useLocale();
  return (
    <a className={`${css.row} ${row.unread > 0 ? css.unread : ""}`} href={`#${chatPath(row.roomId)}`} aria-current={current || undefined} draggable={false}>
      <Avatar id={row.tint} name={row.title} picture={row.picture} size="large" />
      <span className={css.text}>
        <span className={css.line}>
          <span className={css.title} dir="auto">
            <bdi>{row.title}</bdi>
            {row.encrypted && <Icon name="lock" small />}
          </span>
          {row.when && <time dateTime={new Date(row.at).toISOString()}>{row.when}</time>}
        </span>
        <span className={css.line}>
          <Preview row={row} />
          {row.unread > 0 && (
            <span className={`${css.badge} ${row.highlight ? css.highlight : ""}`}>
              <span aria-hidden="true">{row.unread > 99 ? "99+" : row.unread}</span>
              <span className="vh">{words.list.unreadCount(row.unread)}</span>
            </span>
          )}
        </span>
      </span>
    </a>
  );
});

function Preview({ row }: { row: Row }) {
  const { words } = useLocale();
  if (row.kind === "typing") return <span className={`${css.preview} ${css.typing}`}>{words.list.typing}…</span>;
  if (row.kind === "invite") return <span className={`${css.preview} ${css.invite}`}>{words.list.invited}</span>;
  return (
    <span className={css.preview} dir="auto">
      {row.kind === "draft" && <span className={css.danger}>{words.list.draft} </span>}
      {row.kind === "failed" && <span className={css.danger}>{words.list.notSent} · </span>}
      {row.preview}
    </span>
  );
}

function Nothing({ model, known, start }: { model: Conversations; known: boolean; start: () => void }) {
  const { words } = useLocale();
  const query = useValue(model.query);
  const filter = useValue(model.filter);
  const [waited, setWaited] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setWaited(true), 200);
    return () => clearTimeout(timer);
  }, []);
  if (!known) return waited ? <Ghosts label={words.list.loading} /> : null;
  if (query.trim()) return <p className={css.state}>{words.list.noHits(query.trim())}</p>;
  return (
    <div className={css.state}>
      <p>{filter === "unread" ? words.list.emptyUnread : words.list.empty}</p>
      <button type="button" className={controls.button} onClick={filter === "unread" ? () => model.setFilter("all") : start}>
        {filter === "unread" ? words.list.showAll : words.list.new}
      </button>
    </div>
  );
}

function Ghosts({ label }: { label: string }) {
  return (
    <div role="status" aria-label={label}>
      {[1, 2, 3, 4, 5, 6].map((one) => (
        <div key={one} className={css.ghost}>
          <i />
          <span>
            <i />
            <i />
          </span>
        </div>
      ))}
    </div>
  );
}
