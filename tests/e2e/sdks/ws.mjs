// The npm package `ws`: joins, takes a message from elsewhere, publishes, takes its own message back.

import WebSocket from 'ws';

const socket = new WebSocket(`ws://${process.argv[2]}/ws/sdk-ws`);
socket.on('open', () => console.log('joined'));
socket.on('message', (data, isBinary) => {
  const text = data.toString();
  console.log(`received ${isBinary ? 'binary' : 'text'} ${text}`);
  if (text === 'from the test') socket.send('from ws');
  if (text === 'from ws') socket.send(Buffer.from([0xff, 0xfe]));
  if (isBinary) socket.close(1000);
});
socket.on('close', code => console.log(`closed ${code}`));
socket.on('error', error => {
  console.log(error);
  process.exit(1);
});
