// What every client with the browser's WebSocket API can do; returns what it saw. Runs in Node, and as text in a page,
// so it takes nothing from outside but its argument.

export async function scenario({ address, channel }) {
  const open = (path, protocols) => new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://${address}${path}`, protocols);
    socket.binaryType = 'arraybuffer';
    const [inbox, waiting] = [[], []];
    socket.onmessage = ({ data }) => (waiting.length > 0 ? waiting.shift()(data) : inbox.push(data));
    socket.next = () => (inbox.length > 0 ? Promise.resolve(inbox.shift()) : new Promise(done => { waiting.push(done); }));
    socket.closed = new Promise(done => {
      socket.onclose = ({ code, reason, wasClean }) => done({ code, reason, wasClean });
    });
    socket.onopen = () => resolve(socket);
    socket.onerror = () => reject(new Error(`${path} was refused`));
  });
  // A linear congruential generator: nothing that a compressor could use.
  const noise = length => {
    const bytes = new Uint8Array(length);
    let state = 1;
    for (let at = 0; at < length; at++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      bytes[at] = state >>> 24;
    }
    return bytes;
  };
  const json = length => '{"symbol":"ABC","price":12.5},'.repeat(Math.ceil(length / 30)).slice(0, length);
  const messages = {
    'no text': '',
    'text of 20 B': 'twenty bytes of text',
    'text of 4 KiB': json(4096),
    'text of 1 MiB': json(1 << 20),
    'astral text': '\u{1f600}\u{10ffff}\u{800}\u{e9} '.repeat(500),
    'no bytes': new Uint8Array(0),
    'bytes of 20 B': noise(20),
    'bytes of 4 KiB': new TextEncoder().encode(json(4096)),
    'bytes of 64 KiB': noise(64 << 10),
    'bytes of 1 MiB': noise(1 << 20),
  };
  const same = (sent, got) => {
    if (typeof sent === 'string' || typeof got === 'string') return sent === got;
    const bytes = new Uint8Array(got);
    return bytes.length === sent.length && bytes.every((byte, at) => byte === sent[at]);
  };

  const echo = await open('/echo');
  const seen = { extensions: echo.extensions, protocol: echo.protocol, lost: [] };
  for (const [name, message] of Object.entries(messages)) {
    echo.send(message);
    if (!same(message, await echo.next())) seen.lost.push(name);
  }
  // All at once: many frames in a piece of the stream, and many pieces in a frame.
  for (const message of Object.values(messages)) echo.send(message);
  for (const [name, message] of Object.entries(messages)) {
    if (!same(message, await echo.next())) seen.lost.push(`${name} among others`);
  }
  echo.close(4001, 'enough \u{1f600}');
  seen.closed = await echo.closed;

  const reader = await open(`/ws/${channel}`, ['other', 'headwater.json']);
  const writer = await open(`/ws/${channel}`);
  const ticks = `[${json(136 * 30)}1]`;
  const published = [[writer, 'plain words'], [reader, ticks], [writer, noise(300)]];
  seen.channel = { protocol: reader.protocol, readerExtensions: reader.extensions, read: [], ids: new Set() };
  for (const [sender, message] of published) {
    sender.send(message);
    const { id, ...read } = JSON.parse(await reader.next());
    seen.channel.ids.add(id);
    const [[name, value]] = Object.entries(read);
    const restored = {
      text: () => value,
      data: () => JSON.stringify(value),
      base64: () => Uint8Array.from(atob(value), byte => byte.charCodeAt(0)),
    }[name]();
    seen.channel.read.push(`${name} ${same(message, await writer.next()) && same(message, restored)}`);
  }
  seen.channel.ids = seen.channel.ids.size;
  for (const socket of [reader, writer]) {
    socket.close();
    await socket.closed;
  }
  return seen;
}
