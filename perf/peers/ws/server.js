// Node's ws: WebSocket echo, broadcast and pings.
//
// In: HTTP upgrades on any path, then messages. Out: each message to its sender, or to all others; or pings,
// as its documentation advises: one timer for all, and whoever did not answer the last one is ended. One
// process, one event loop. Compression off (the default), no list of clients where none is needed, and
// with the optional native module `bufferutil` that its authors recommend for masking. The broadcast is
// the loop over `server.clients` of its documentation, with the frame's bytes shared as a Buffer.
// Nagle's algorithm is off: ws sets TCP_NODELAY on every socket.

import { parseArgs } from 'node:util';
import { WebSocket, WebSocketServer } from 'ws';

const { values: options } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    role: { type: 'string', default: 'echo' },
    'ping-ms': { type: 'string', default: '30000' },
  },
});
const broadcast = options.role === 'broadcast';
const pings = options.role === 'pings';

const server = new WebSocketServer({
  host: '127.0.0.1',
  port: Number(options.port),
  backlog: 65535,
  perMessageDeflate: false,
  clientTracking: broadcast || pings,
  maxPayload: 1 << 20,
});

server.on('connection', (socket) => {
  // A connection that ended is the lab's to notice.
  socket.on('error', () => {});
  if (pings) {
    socket.isAlive = true;
    socket.on('pong', alive);
    return;
  }
  socket.on('message', (data, binary) => {
    if (!broadcast) {
      socket.send(data, { binary });
      return;
    }
    for (const client of server.clients) {
      if (client !== socket && client.readyState === WebSocket.OPEN) {
        client.send(data, { binary });
      }
    }
  });
});

function alive() {
  this.isAlive = true;
}

if (pings) {
  setInterval(() => {
    for (const client of server.clients) {
      if (!client.isAlive) {
        client.terminate();
        continue;
      }
      client.isAlive = false;
      client.ping();
    }
  }, Number(options['ping-ms']));
}

server.on('listening', () => console.log(JSON.stringify({ port: server.address().port })));

for (const signal of ['SIGTERM', 'SIGINT']) {
  process.on(signal, () => process.exit(0));
}
