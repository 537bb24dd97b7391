/** @file A table of a card: it scrolls by itself, also with the keyboard, and is named for who hears it. */
import type { ComponentChildren, VNode } from "preact";

export type Column = {
  readonly title: string;
  readonly isNumber?: boolean;
};

export function ScrollTable({
  label,
  columns,
  isTall = false,
  children,
}: {
  readonly label: string;
  readonly columns: readonly Column[];
  /** Scrolls from some height on. */
  readonly isTall?: boolean;
  /** Its rows. */
  readonly children: ComponentChildren;
}): VNode {
  return (
    <div class={isTall ? "scroll tall" : "scroll"} tabIndex={0} role="group" aria-label={label}>
      <table>
        <thead>
          <tr>
            {columns.map(({ title, isNumber = false }) => (
              <th key={title} scope="col" class={isNumber ? "number" : ""}>
                {title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}
