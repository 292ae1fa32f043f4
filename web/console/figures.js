// Figures: cumulative totals become rates, rates become tiles with a sparkline.

import { element, setText } from './dom.js';

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

export const formatCount = value => (value < 10_000 ? whole.format(value) : short.format(value));

export function formatRate(value) {
  return value > 0 && value < 10 ? value.toFixed(1) : formatCount(value);
}

export function formatBytes(value) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? whole.format(value) : value.toFixed(1)} ${units[unit]}`;
}

export function formatUptime(seconds) {
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  if (days > 0) return `${days} d ${hours} h`;
  if (hours > 0) return `${hours} h ${minutes} min`;
  return minutes > 0 ? `${minutes} min ${Math.floor(seconds % 60)} s` : `${Math.floor(seconds)} s`;
}

/** A cumulative total's change per second between calls; a total that fell means a restart: null. */
export class Rate {
  #last = null;

  next(total, seconds) {
    const last = this.#last;
    this.#last = { total, seconds };
    if (!last || total < last.total || seconds <= last.seconds) return null;
    return (total - last.total) / (seconds - last.seconds);
  }
}

const POINTS = 60;

/** A tile with the newest value and the last minute as a line. */
export class Tile {
  #values = [];

  constructor(container, name, format) {
    this.format = format;
    this.value = element('div', { className: 'value', text: '–' });
    this.total = element('div', { className: 'total', text: '\u00a0' });
    const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
    svg.setAttribute('viewBox', `0 0 ${POINTS - 1} 30`);
    svg.setAttribute('preserveAspectRatio', 'none');
    svg.setAttribute('aria-hidden', 'true');
    this.area = document.createElementNS(svg.namespaceURI, 'polygon');
    this.line = document.createElementNS(svg.namespaceURI, 'polyline');
    svg.append(this.area, this.line);
    container.append(element('div', { className: 'tile' },
      element('div', { className: 'name', text: name }), this.value, this.total, svg));
  }

  show(value, total) {
    if (value === null) return;
    this.#values = [...this.#values, value].slice(-POINTS);
    setText(this.value, this.format(value));
    setText(this.total, total || '\u00a0');
    const top = Math.max(...this.#values, 1e-9);
    const first = POINTS - this.#values.length;
    const points = this.#values.map((point, index) => `${first + index},${(28 - 25 * point / top).toFixed(1)}`);
    this.line.setAttribute('points', points.join(' '));
    this.area.setAttribute('points', `${first},30 ${points.join(' ')} ${POINTS - 1},30`);
  }
}
