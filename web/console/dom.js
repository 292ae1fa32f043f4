// Small things for building the page. Text only ever becomes text: nothing here parses HTML.

export const byId = id => document.getElementById(id);

/** An element with a class, text and attributes. */
export function element(name, { text, className, ...attributes } = {}, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children);
  return made;
}

/** Sets the text only when it changes, so that selections and readers are left alone. */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/** A badge: "good", "bad", "idle", or the colour of waiting. */
export function setBadge(badge, kind, text) {
  badge.className = kind ? `badge ${kind}` : 'badge';
  setText(badge, text);
}

/** Adds a line to a log of bounded length; keeps to the end unless the reader has scrolled up. */
export function appendLine(log, line, linesMax = 200) {
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  log.append(line);
  while (log.childElementCount > linesMax) log.firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

/**
 * Makes the children of a list match the items, by key: focus and hover survive an update.
 * `make(item)` gives { node, update(item) }.
 */
export function keyedList(list, key, make) {
  const rows = new Map();
  return items => {
    const wanted = new Set(items.map(key));
    for (const [name, row] of rows) {
      if (!wanted.has(name)) {
        row.node.remove();
        rows.delete(name);
      }
    }
    items.forEach((item, index) => {
      const name = key(item);
      if (!rows.has(name)) rows.set(name, make(item));
      const row = rows.get(name);
      if (list.children[index] !== row.node) list.insertBefore(row.node, list.children[index] ?? null);
      row.update(item);
    });
  };
}

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false });
export const timeOfDay = () => clock.format(new Date());
