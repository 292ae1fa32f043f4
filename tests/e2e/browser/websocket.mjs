// WebSockets of headless Chromium: node websocket.mjs '{"chromium": PATH, "address": ADDRESS, "port": PORT}'; the last
// line is what it saw.

import { launch } from './chromium.mjs';
import { scenario } from './scenario.mjs';

const { chromium, address, port } = JSON.parse(process.argv[2]);
const browser = await launch(chromium);
try {
  const page = await browser.newPage();
  await page.goto(`http://${address}/healthz`);
  const seen = await page.evaluate(scenario, { address, channel: 'sdk-chromium' });

  // What the browser says of refusals: to the page hardly anything, to the console the status.
  const complaints = [];
  page.on('console', message => complaints.push(message.text()));
  const refused = url => page.evaluate(target => new Promise(resolve => {
    const socket = new WebSocket(target);
    const events = [];
    socket.onopen = () => events.push('open');
    socket.onerror = () => events.push('error');
    socket.onclose = ({ code, wasClean }) => resolve([...events, code, wasClean]);
  }), url);
  seen.refused = [await refused(`ws://${address}/nothing`)];
  // The same server under another name is another site.
  await page.goto(`http://localhost:${port}/healthz`);
  seen.refused.push(await refused(`ws://${address}/ws/a`));
  const statusOf = text => /Unexpected response code: (\d+)/.exec(text)?.[1];
  seen.statuses = complaints.map(statusOf).filter(status => status !== undefined);

  await page.goto(`http://${address}/healthz`);
  const closed = page.evaluate(target => new Promise(resolve => {
    const socket = new WebSocket(target);
    socket.onopen = () => console.log('WAITING');
    socket.onclose = ({ code, wasClean }) => resolve({ code, wasClean });
  }), `ws://${address}/ws/a`);
  page.on('console', message => message.text() === 'WAITING' && console.log('WAITING'));
  console.log(`RESULT ${JSON.stringify({ ...seen, drained: await closed })}`);
} finally {
  await browser.close();
}
