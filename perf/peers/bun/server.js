// Bun: WebSocket echo, broadcast, channels and pings with Bun.serve.
//
// In: HTTP upgrades on any path, then messages. Out: each message to its sender, to all others, or to a
// channel; or pings, which Bun sends by itself (`sendPings`, its default) to whoever is silent. One process,
// one event loop. Compression off (the default); broadcast and channels are Bun's own publish and subscribe, which its
// authors advise for it: `socket.publish` goes to all subscribers but the sender, `server.publish` to all.
// No limit on what a slow reader may leave unsent but the default (16 MiB). No idle timeout, which would
// end the lab's idle connections, but with pings, which come a margin before it.

const options = { port: '0', role: 'echo', 'ping-ms': '30000' };
for (let i = 2; i + 1 < process.argv.length; i += 2) {
  options[process.argv[i].replace(/^--/, '')] = process.argv[i + 1];
}
const broadcast = options.role === 'broadcast';
const channels = options.role === 'channels';
const CHANNEL = 'all';

// Seconds until a silent connection is ended. Underneath, a ping is sent 4, 8 or 16 seconds before, the more
// the longer it is, and time goes in steps of 4 seconds.
function idleTimeout() {
  if (options.role !== 'pings') return 0;
  const every = Math.max(4, Math.ceil(Number(options['ping-ms']) / 4000) * 4);
  if (every < 12) return every + 4;
  return every < 24 ? every + 8 : every + 16;
}

const server = Bun.serve({
  hostname: '127.0.0.1',
  port: Number(options.port),
  fetch(request, server) {
    const path = channels ? new URL(request.url).pathname : '/';
    if (server.upgrade(request, { data: path })) return;
    return new Response('WebSocket only', { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    idleTimeout: idleTimeout(),
    maxPayloadLength: 1 << 20,
    open(socket) {
      if (broadcast) socket.subscribe(CHANNEL);
      else if (channels && socket.data !== '/publish') socket.subscribe(socket.data);
    },
    message(socket, message) {
      if (broadcast) {
        socket.publish(CHANNEL, message);
      } else if (channels) {
        // Of /publish: `NUMBER TEXT` brings the text to those of /c/NUMBER.
        const space = message.indexOf(' ');
        server.publish('/c/' + message.slice(0, space), message.slice(space + 1));
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
