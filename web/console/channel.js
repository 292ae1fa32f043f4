// One channel, twice: as a chat over WebSocket and as a log over server-sent events.

import { appendLine, byId, element, setBadge, timeOfDay } from './dom.js';

const RETRY_FIRST_MS = 500;
const RETRY_MAX_MS = 8000;

/** The chat. Each text message sent is a publication, each publication a message. */
export class Chat {
  #socket = null;
  #retry = 0;
  #wait = RETRY_FIRST_MS;

  constructor() {
    this.log = byId('messages');
    this.badge = byId('socket-state');
    byId('message-form').addEventListener('submit', event => {
      event.preventDefault();
      this.#send(byId('message'));
    });
  }

  join(channel) {
    this.#close();
    this.channel = channel;
    this.#wait = RETRY_FIRST_MS;
    this.log.replaceChildren();
    this.#open();
  }

  #open() {
    const origin = location.origin.replace(/^http/, 'ws');
    const socket = new WebSocket(`${origin}/ws/${encodeURIComponent(this.channel)}`);
    socket.binaryType = 'arraybuffer';
    this.#socket = socket;
    setBadge(this.badge, '', 'connecting');
    byId('send').disabled = true;
    socket.addEventListener('open', () => {
      this.#wait = RETRY_FIRST_MS;
      setBadge(this.badge, 'good', 'WebSocket');
      byId('send').disabled = false;
    });
    socket.addEventListener('message', ({ data }) => {
      this.#line('message', typeof data === 'string' ? data : `binary, ${data.byteLength} bytes`);
    });
    socket.addEventListener('close', ({ code, reason }) => {
      if (socket !== this.#socket) return;
      setBadge(this.badge, 'bad', `closed (${code})`);
      byId('send').disabled = true;
      if (reason) this.#line('note', reason);
      this.#retry = setTimeout(() => this.#open(), this.#wait);
      this.#wait = Math.min(this.#wait * 2, RETRY_MAX_MS);
    });
  }

  #close() {
    clearTimeout(this.#retry);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(1000);
  }

  #send(input) {
    if (!input.value || this.#socket?.readyState !== WebSocket.OPEN) return;
    this.#socket.send(input.value);
    input.value = '';
    input.focus();
  }

  #line(className, text) {
    appendLine(this.log, element('li', { className },
      element('time', { text: timeOfDay() }), element('span', { className: 'text', text })));
  }
}

/** The log. The browser reconnects by itself and resumes by the last id; a refusal is final. */
export class EventLog {
  #source = null;
  #retry = 0;

  constructor() {
    this.log = byId('events');
    this.badge = byId('events-state');
  }

  join(channel) {
    clearTimeout(this.#retry);
    this.#source?.close();
    this.channel = channel;
    this.log.replaceChildren();
    this.#open();
  }

  #open() {
    const source = new EventSource(`/sse/${encodeURIComponent(this.channel)}`);
    this.#source = source;
    setBadge(this.badge, '', 'connecting');
    source.addEventListener('open', () => setBadge(this.badge, 'good', 'EventSource'));
    source.addEventListener('message', event => {
      appendLine(this.log, element('li', { className: 'event' },
        element('span', { className: 'id', text: event.lastEventId || 'no id', title: event.lastEventId }),
        element('span', { className: 'text', text: event.data })));
    });
    source.addEventListener('error', () => {
      if (source !== this.#source) return;
      const refused = source.readyState === EventSource.CLOSED;
      setBadge(this.badge, 'bad', refused ? 'refused' : 'reconnecting');
      if (refused) this.#retry = setTimeout(() => this.#open(), RETRY_MAX_MS);
    });
  }
}
