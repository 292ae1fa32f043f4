// The console: reads the server's state once a second and keeps the page in step with it.
// `?stream=live/cam` and `?channel=chat` in the address choose what it opens with.

import { Chat, EventLog } from './channel.js';
import { byId, element, keyedList, setBadge, setText } from './dom.js';
import { Rate, Tile, formatBytes, formatCount, formatRate, formatUptime } from './figures.js';
import { Player } from './player.js';

const POLL_MS = 1000;
const POLL_TIMEOUT_MS = 4000;

const address = new URLSearchParams(location.search);
const player = new Player();
const chat = new Chat();
const eventLog = new EventLog();

// Streams.

const picker = byId('stream');
let publishing = new Set();

function watch(name) {
  picker.value = name;
  player.play(name);
}

picker.addEventListener('change', () => picker.value && watch(picker.value));

const codecsOf = stream => stream.tracks.map(track => track.codec).join(', ');

function describeTrack(track) {
  if (track.kind === 'video') return `${track.codec} ${track.width} × ${track.height}`;
  return `${track.codec} ${track.sample_rate / 1000} kHz, ${track.channels === 1 ? 'mono' : track.channels === 2 ? 'stereo' : `${track.channels} channels`}`;
}

const showStreams = keyedList(byId('streams'), stream => stream.name, stream => {
  const badge = element('span');
  const detail = element('span', { className: 'detail' });
  const button = element('button', { type: 'button', text: 'Play', 'aria-label': `Play ${stream.name}` });
  button.addEventListener('click', () => watch(stream.name));
  const node = element('li', {}, element('span', { className: 'name', text: stream.name }), badge, detail, button);
  const update = now => {
    setBadge(badge, now.publishing ? 'good' : 'idle', now.publishing ? 'live' : 'off');
    setText(detail, now.tracks.map(describeTrack).join(' · ') || 'no tracks yet');
  };
  return { node, update };
});

const showOptions = keyedList(picker, stream => stream.name, stream => ({
  node: element('option', { value: stream.name, text: stream.name }),
  update: () => {},
}));

function takeStreams(streams) {
  // An option stays for the chosen stream even after it is gone, so that the picker tells the truth.
  const chosen = player.name;
  const listed = chosen && !streams.some(stream => stream.name === chosen)
    ? [...streams, { name: chosen, publishing: false, tracks: [] }] : streams;
  picker.disabled = listed.length === 0;
  if (listed.length > 0) picker.querySelector('option[value=""]')?.remove();
  showOptions(listed);
  showStreams(streams);
  byId('streams-empty').hidden = streams.length > 0;

  const live = new Set(streams.filter(stream => stream.publishing).map(stream => stream.name));
  const first = streams.find(stream => stream.publishing)?.name;
  if (!chosen && first) watch(first);
  // A publisher that came back may have new parameters: start over unless the picture still moves.
  else if (chosen && live.has(chosen) && !publishing.has(chosen) && player.video.readyState < 3) watch(chosen);
  publishing = live;
  const playing = streams.find(stream => stream.name === player.name);
  setText(byId('player-codecs'), (playing && codecsOf(playing)) || '–');
}

// Channels.

const channelInput = byId('channel');

function join(channel) {
  channelInput.value = channel;
  chat.join(channel);
  eventLog.join(channel);
}

byId('channel-form').addEventListener('submit', event => {
  event.preventDefault();
  join(channelInput.value);
  byId('message').focus();
});

const plural = (count, one) => `${formatCount(count)} ${one}${count === 1 ? '' : 's'}`;

const showChannels = keyedList(byId('channels'), channel => channel.name, channel => {
  const rate = new Rate();
  const detail = element('span', { className: 'detail' });
  const button = element('button', { type: 'button', text: 'Join', 'aria-label': `Join ${channel.name}` });
  button.addEventListener('click', () => join(channel.name));
  const node = element('li', {}, element('span', { className: 'name', text: channel.name }), detail, button);
  const update = now => {
    const perSecond = rate.next(now.publications, performance.now() / 1000);
    const speed = perSecond ? `, ${formatRate(perSecond)}/s` : '';
    setText(detail, `${plural(now.subscribers, 'subscriber')} · ${plural(now.publications, 'message')}${speed}`);
  };
  return { node, update };
});

const showChannelNames = keyedList(byId('channel-names'), channel => channel.name, channel => ({
  node: element('option', { value: channel.name }),
  update: () => {},
}));

// Rates.

const tiles = byId('tiles');
const connections = new Tile(tiles, 'Connections', formatCount);
const perSecond = [
  ['Publications', 'publications', formatRate, '/s', formatCount],
  ['Deliveries', 'deliveries', formatRate, '/s', formatCount],
  ['Sent', 'bytes_out', formatBytes, '/s', formatBytes],
  ['Received', 'bytes_in', formatBytes, '/s', formatBytes],
].map(([name, key, format, unit, formatTotal]) => ({
  key,
  formatTotal,
  rate: new Rate(),
  tile: new Tile(tiles, name, value => `${format(value)}${unit}`),
}));

function takeTotals(state) {
  const seconds = performance.now() / 1000;
  connections.show(state.connections, `${formatCount(state.totals.accepted)} accepted`);
  for (const { key, rate, tile, formatTotal } of perSecond) {
    tile.show(rate.next(state.totals[key], seconds), `${formatTotal(state.totals[key])} in all`);
  }
}

// The state, once a second.

function take(state) {
  setBadge(byId('server-state'), 'good', 'running');
  setText(byId('server-facts'), `${state.version} · up ${formatUptime(state.uptime_s)} · ${plural(state.shards, 'shard')}`);
  takeStreams(state.streams);
  const channels = state.channels;
  showChannels(channels);
  showChannelNames(channels);
  byId('channels-empty').hidden = channels.length > 0;
  takeTotals(state);
}

async function poll() {
  try {
    const response = await fetch('/console/state.json', { cache: 'no-store', signal: AbortSignal.timeout(POLL_TIMEOUT_MS) });
    if (response.ok) {
      take(await response.json());
    } else {
      setBadge(byId('server-state'), 'bad', response.status === 401 || response.status === 403 ? 'figures need the loopback address' : `answers ${response.status}`);
    }
  } catch {
    setBadge(byId('server-state'), 'bad', 'not reachable');
  }
  setTimeout(poll, POLL_MS);
}

join(address.get('channel') || 'demo');
if (address.get('stream')) player.play(address.get('stream'));
poll();
