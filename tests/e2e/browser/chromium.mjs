// A headless Chromium with a profile of its own, which goes with it.

import { chromium } from 'playwright-core';

const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--mute-audio', '--autoplay-policy=no-user-gesture-required', '--no-proxy-server',
  '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-quic',
];

export const launch = executablePath => chromium.launch({ executablePath, headless: true, args: FLAGS });
