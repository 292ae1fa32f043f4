// The npm package `ws`: what a browser's API can do, and what only `ws` can: fragments, pings, broken text, no offer of
// compression, the status of a refusal. node ws.mjs '{"address": ADDRESS, "offers": BOOL}'; the last line is what it saw.

import { once } from 'node:events';
import WebSocket from 'ws';
import { scenario } from './scenario.mjs';

const { address, offers } = JSON.parse(process.argv[2]);
const options = { perMessageDeflate: offers };
const at = path => `ws://${address}${path}`;

globalThis.WebSocket = class extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols, options);
  }
};

async function open(path) {
  const socket = new WebSocket(at(path), options);
  await once(socket, 'open');
  return socket;
}

const text = async socket => {
  const [data, isBinary] = await once(socket, 'message');
  return `${isBinary ? 'binary' : 'text'} ${data}`;
};

async function fragments() {
  const socket = await open('/echo');
  const parts = ['in ', 'three ', 'fragments'];
  parts.forEach((part, index) => socket.send(part, { fin: index + 1 === parts.length }));
  const short = await text(socket);
  // Cut inside a character, with a ping between the fragments.
  const letters = Buffer.from('\u{1f600}'.repeat(4000));
  const cuts = [0, 2001, 2002, 9999, letters.length];
  const pongs = [];
  socket.on('pong', data => pongs.push(data.toString()));
  for (let cut = 1; cut < cuts.length; cut++) {
    socket.send(letters.subarray(cuts[cut - 1], cuts[cut]), { binary: false, fin: cut + 1 === cuts.length });
    socket.ping(`ping ${cut}`);
  }
  const long = await text(socket) === `text ${letters}`;
  while (pongs.length < 4) await once(socket, 'pong');
  socket.close(1000, 'bye');
  const [code, reason] = await once(socket, 'close');
  return { short, long, pongs, closed: `${code} ${reason}` };
}

async function brokenText() {
  const socket = await open('/echo');
  socket.send(Buffer.from([0x61, 0xff]), { binary: false });
  const [code, reason] = await once(socket, 'close');
  return { code, says: reason.length > 0 };
}

/** What 4 KiB of text take on their way to and from a channel. */
async function wire() {
  const socket = await open('/ws/sdk-ws-wire');
  const message = '{"symbol":"ABC","price":12.5},'.repeat(140).slice(0, 4096);
  const { bytesRead, bytesWritten } = socket._socket;
  socket.send(message);
  const same = await text(socket) === `text ${message}`;
  const [read, written] = [socket._socket.bytesRead - bytesRead, socket._socket.bytesWritten - bytesWritten];
  socket.close();
  await once(socket, 'close');
  return { same, compressedIn: read < 1024, compressedOut: written < 1024 };
}

const refused = (path, more) => new Promise(resolve => {
  const socket = new WebSocket(at(path), { ...options, ...more });
  socket.on('open', () => resolve('opened'));
  socket.on('unexpected-response', (request, response) => {
    response.resume();
    response.on('end', () => resolve(response.statusCode));
  });
});

const joined = await open('/ws/sdk-ws');
console.log('JOINED');
const fromTest = await text(joined);
joined.send('from ws');
const own = await text(joined);
const seen = {
  fromTest,
  own,
  ...await scenario({ address, channel: 'sdk-ws-scenario' }),
  fragments: await fragments(),
  brokenText: await brokenText(),
  wire: await wire(),
  refused: [
    await refused('/ws/a', { origin: 'http://elsewhere.example' }),
    await refused('/nothing', {}),
    await refused('/ws/a', { protocolVersion: 8 }),
  ],
};
console.log('WAITING');
const [code] = await once(joined, 'close');
console.log(`RESULT ${JSON.stringify({ ...seen, drained: code })}`);
