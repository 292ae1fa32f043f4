// Looks at the console and the examples as a person would, and prints what it saw as one line of JSON.
// node console.mjs '{"chromium": PATH, "base": URL, "screens": FOLDER}'

import { launch } from './chromium.mjs';

const { chromium, base, screens } = JSON.parse(process.argv[2]);
const WAIT_MS = 30_000;
const WATCH_MS = 10_000;
const WIDTHS = { 1400: { width: 1400, height: 900 }, 390: { width: 390, height: 844 } };

const browser = await launch(chromium);
const errors = [];
const overflows = [];

async function open(path, width) {
  const phone = width === 390;
  const page = await browser.newPage({ viewport: WIDTHS[width], deviceScaleFactor: phone ? 2 : 1, isMobile: phone, hasTouch: phone });
  page.setDefaultTimeout(WAIT_MS);
  page.on('pageerror', error => errors.push(`${path} at ${width}: ${error}`));
  page.on('console', message => {
    // The page may come before the publisher, and then tries again.
    const early = message.location().url.endsWith('/live/cam/index.m3u8') && message.text().includes('404');
    if (message.type() === 'error' && !early) errors.push(`${path} at ${width}: ${message.text()} ${message.location().url}`);
  });
  await page.goto(base + path);
  return page;
}

async function leave(page, name, width) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (wide > 0) overflows.push(`${name} at ${width}: ${wide} px`);
  await page.screenshot({ path: `${screens}/${name}-${width}.png`, fullPage: true });
  await page.close();
}

const plays = page => page.waitForFunction(() => {
  const video = document.querySelector('#player');
  return video.readyState >= 3 && video.currentTime > 0 && video.getVideoPlaybackQuality().totalVideoFrames > 10;
});

/** What the player says of itself, and the clock that is burnt into the demo's picture. */
const look = page => page.evaluate(() => {
  const GLYPHS = [
    [14, 17, 19, 21, 25, 17, 14], [4, 12, 20, 4, 4, 4, 31], [14, 17, 1, 6, 8, 16, 31], [30, 1, 1, 14, 1, 1, 30], [3, 5, 9, 17, 31, 1, 1],
    [31, 16, 30, 1, 1, 17, 14], [14, 16, 16, 30, 17, 17, 14], [31, 1, 2, 2, 4, 4, 4], [14, 17, 17, 14, 17, 17, 14], [14, 17, 17, 15, 1, 2, 12],
  ];
  const video = document.querySelector('#player');
  const [width, height] = [video.videoWidth, video.videoHeight];
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext('2d');
  context.drawImage(video, 0, 0);
  const currentTime = video.currentTime;
  const now = Date.now();
  const { data } = context.getImageData(0, 0, width, height);
  // The text's place follows from the picture's size: 12 characters of 6 x 7 squares in a panel at the centre.
  const [large, small] = [90, 150].map(part => Math.max(Math.floor(height / part), 1));
  const even = value => value - value % 2;
  const left = even(Math.floor((width - even(71 * large + 6 * large)) / 2)) + 3 * large;
  const top = even(Math.floor((height - even(7 * (large + small) + 9 * large)) / 2)) + 3 * large;
  const isLit = (character, column, row) => {
    let sum = 0;
    for (let y = 0; y < large; y++) {
      for (let x = 0; x < large; x++) {
        sum += data[4 * ((top + row * large + y) * width + left + (character * 6 + column) * large + x) + 1];
      }
    }
    return sum / (large * large) > 110;
  };
  const digit = character => {
    const distances = GLYPHS.map(rows => rows.reduce((sum, bits, row) =>
      sum + [0, 1, 2, 3, 4].filter(column => Boolean(bits >> (4 - column) & 1) !== isLit(character, column, row)).length, 0));
    const best = Math.min(...distances);
    return { digit: distances.indexOf(best), wrong: best };
  };
  const digits = [0, 1, 3, 4, 6, 7, 9, 10, 11].map(digit);
  const [h1, h2, m1, m2, s1, s2, a, b, c] = digits.map(({ digit }) => digit);
  const { totalVideoFrames, droppedVideoFrames } = video.getVideoPlaybackQuality();
  return {
    now, currentTime, width, height, totalVideoFrames, droppedVideoFrames,
    audioBytes: video.webkitAudioDecodedByteCount,
    clockMs: (h1 * 10 + h2) * 3_600_000 + (m1 * 10 + m2) * 60_000 + (s1 * 10 + s2) * 1000 + a * 100 + b * 10 + c,
    wrongSquares: digits.reduce((sum, { wrong }) => sum + wrong, 0),
    messages: document.querySelectorAll('.message').length,
    events: document.querySelectorAll('.event').length,
  };
});

const picture = async page => (await page.locator('#player').screenshot()).toString('base64');

async function watch(page) {
  await plays(page);
  const before = await look(page);
  const first = await picture(page);
  const after = await page.evaluate(ms => new Promise(done => { setTimeout(done, ms); }), WATCH_MS).then(() => look(page));
  return { before, after, pictureMoved: first !== await picture(page) };
}

try {
  const home = await open('/', 1400);
  const demo = await watch(home);
  await home.fill('#message', 'hello from Chromium');
  await home.click('#send');
  await home.locator('.message', { hasText: 'hello from Chromium' }).waitFor();
  await home.locator('.event', { hasText: 'hello from Chromium' }).waitFor();
  await leave(home, 'console', 1400);

  console.log('WATCHED');
  const cam = await open('/?stream=live/cam', 1400);
  const published = await watch(cam);
  await leave(cam, 'console-cam', 1400);

  const small = await open('/', 390);
  await plays(small);
  await small.locator('.message').first().waitFor();
  await leave(small, 'console', 390);

  for (const width of [1400, 390]) {
    const index = await open('/examples/', width);
    await index.waitForFunction(() => [...document.querySelectorAll('pre')].every(block => block.textContent.length > 100));
    await leave(index, 'examples', width);

    const chat = await open('/examples/chat.html', width);
    await chat.waitForFunction(() => typeof socket !== 'undefined' && socket.readyState === WebSocket.OPEN);
    for (const text of ['first', `a longer message at ${width} pixels that has to find its line breaks by itself`]) {
      await chat.fill('input', text);
      await chat.click('button');
      await chat.locator('.message', { hasText: text }).first().waitFor();
    }
    await leave(chat, 'chat', width);

    const player = await open('/examples/player.html', width);
    await plays(player);
    await leave(player, 'player', width);

    const ticker = await open('/examples/ticker.html', width);
    await ticker.waitForFunction(() => document.querySelector('output').textContent.includes('hello from headwater'));
    await leave(ticker, 'ticker', width);
  }
  console.log(`RESULT ${JSON.stringify({ demo, published, errors, overflows })}`);
} finally {
  if (errors.length > 0) console.log(`errors: ${errors.join('\n')}`);
  await browser.close();
}
