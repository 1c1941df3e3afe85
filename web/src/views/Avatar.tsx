// SPDX-License-Identifier: Apache-2.0
// Knows how a person or a room looks in a circle: the picture, or initials on a color of their own.
import { memo, useContext, useEffect, useState } from "react";

import { initials, tint } from "../viewmodels/people";
import css from "./Avatar.module.css";
import { PicturesContext } from "./context";

const TINTS = [css.t0, css.t1, css.t2, css.t3, css.t4, css.t5, css.t6];

interface Props {
  readonly id: string;
  readonly name: string;
  readonly picture?: string;
  readonly size: "small" | "medium" | "large" | "huge";
}

export const Avatar = memo(function Avatar({ id, name, picture, size }: Props) {
  const pictures = useContext(PicturesContext);
  const [url, setUrl] = useState<string>();
  useEffect(() => {
    let gone = false;
    setUrl(undefined);
    if (picture && pictures) void pictures.small(picture).then((found) => !gone && setUrl(found));
    return () => {
      gone = true;
    };
  }, [picture, pictures]);
  return (
    <span className={`${css.avatar} ${css[size]} ${TINTS[tint(id, TINTS.length)]}`} aria-hidden="true">
      {initials(name)}
      {url && <img src={url} alt="" draggable={false} />}
    </span>
  );
});
