// Node's ws: WebSocket echo, broadcast, channels and pings.
//
// In: HTTP upgrades on any path, then messages. Out: each message to its sender, to all others, or to a
// channel (a Set of its connections, in a Map); or pings, as its documentation advises: one timer for all,
// and whoever did not answer the last one is ended. One process, one event loop. Compression off (the default), no list of clients where none is needed, and
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
const channels = options.role === 'channels' ? new Map() : undefined;

const server = new WebSocketServer({
  host: '127.0.0.1',
  port: Number(options.port),
  backlog: 65535,
  perMessageDeflate: false,
  clientTracking: broadcast || pings,
  maxPayload: 1 << 20,
});

server.on('connection', (socket, request) => {
  // A connection that ended is the lab's to notice.
  socket.on('error', () => {});
  if (pings) {
    socket.isAlive = true;
    socket.on('pong', alive);
    return;
  }
  if (channels) {
    join(socket, request.url);
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

// A socket of /publish says `NUMBER TEXT`; one of /c/NUMBER gets the texts.
function join(socket, path) {
  if (path === '/publish') {
    socket.on('message', (data) => {
      const space = data.indexOf(32);
      const text = data.subarray(space + 1);
      for (const member of channels.get(data.toString('latin1', 0, space)) ?? []) {
        if (member.readyState === WebSocket.OPEN) member.send(text, { binary: false });
      }
    });
    return;
  }
  const name = path.slice('/c/'.length);
  let members = channels.get(name);
  if (!members) channels.set(name, (members = new Set()));
  members.add(socket);
  socket.on('close', () => {
    members.delete(socket);
    if (members.size === 0 && channels.get(name) === members) channels.delete(name);
  });
}

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
