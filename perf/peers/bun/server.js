// Bun: WebSocket echo and broadcast with Bun.serve.
//
// In: HTTP upgrades on any path, then messages. Out: each message to its sender, or to all others. One
// process, one event loop. Compression off (the default); the broadcast is Bun's own publish and
// subscribe, which its authors advise for it: `socket.publish` goes to all subscribers but the sender.
// No limit on what a slow reader may leave unsent but the default (16 MiB), no idle timeout, which would
// end the lab's idle connections.

const options = { port: '0', role: 'echo' };
for (let i = 2; i + 1 < process.argv.length; i += 2) {
  options[process.argv[i].replace(/^--/, '')] = process.argv[i + 1];
}
const broadcast = options.role === 'broadcast';
const CHANNEL = 'all';

const server = Bun.serve({
  hostname: '127.0.0.1',
  port: Number(options.port),
  fetch(request, server) {
    if (server.upgrade(request)) return;
    return new Response('WebSocket only', { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    idleTimeout: 0,
    maxPayloadLength: 1 << 20,
    open(socket) {
      if (broadcast) socket.subscribe(CHANNEL);
    },
    message(socket, message) {
      if (broadcast) {
        socket.publish(CHANNEL, message);
      } else {
        socket.send(message);
      }
    },
  },
});

console.log(JSON.stringify({ port: server.port }));

for (const signal of ['SIGTERM', 'SIGINT']) {
  process.on(signal, () => process.exit(0));
}
