// The player: one <video>, fed by hls.js, or by the browser where it plays HLS itself.

import { byId, setText } from './dom.js';

const RETRY_MS = 2000;

/** The path of a stream's playlist; a name like "live/cam" is part of the path. */
export const playlistOf = name => `/${name.split('/').map(encodeURIComponent).join('/')}/index.m3u8`;

export class Player {
  #hls = null;
  #retry = 0;
  #name = '';

  constructor() {
    this.video = byId('player');
    this.message = byId('player-message');
    for (const event of ['playing', 'waiting', 'stalled', 'pause', 'ended', 'emptied']) {
      this.video.addEventListener(event, () => this.#showState());
    }
    byId('go-live').addEventListener('click', () => this.#goLive());
    setInterval(() => this.#showFacts(), 500);
  }

  get name() {
    return this.#name;
  }

  /** Plays this stream from its live edge; the same one again starts over. */
  play(name) {
    this.#stop();
    this.#name = name;
    this.#load();
  }

  #load() {
    const url = playlistOf(this.#name);
    const link = byId('hls-link');
    link.href = url;
    link.hidden = false;
    this.#say(`Waiting for ${this.#name}.`);
    if (window.Hls?.isSupported()) {
      this.#loadWithHls(url);
    } else if (this.video.canPlayType('application/vnd.apple.mpegurl')) {
      this.video.src = url;
      this.video.onerror = () => this.#later();
      this.#start();
    } else {
      this.#say('This browser plays no live streams: it lacks Media Source Extensions.');
    }
  }

  #loadWithHls(url) {
    const { Hls } = window;
    const hls = new Hls({ lowLatencyMode: true, backBufferLength: 30 });
    this.#hls = hls;
    hls.on(Hls.Events.MANIFEST_PARSED, () => this.#start());
    hls.on(Hls.Events.ERROR, (_, error) => {
      if (!error.fatal) return;
      if (error.type === Hls.ErrorTypes.MEDIA_ERROR && this.video.readyState > 0) {
        hls.recoverMediaError();
      } else {
        this.#later();
      }
    });
    hls.loadSource(url);
    hls.attachMedia(this.video);
  }

  #start() {
    // Muted playback is allowed everywhere; where it is not, the controls are there.
    this.video.play().catch(() => {});
  }

  #later() {
    const name = this.#name;
    this.#stop();
    this.#say(`${name} is not there at the moment. Trying again.`);
    this.#retry = setTimeout(() => this.#load(), RETRY_MS);
  }

  #stop() {
    clearTimeout(this.#retry);
    this.#hls?.destroy();
    this.#hls = null;
    this.video.onerror = null;
    this.video.removeAttribute('src');
    this.video.load();
  }

  #goLive() {
    const { seekable } = this.video;
    const edge = this.#hls?.liveSyncPosition ?? (seekable.length ? seekable.end(seekable.length - 1) - 2 : null);
    if (edge !== null && Number.isFinite(edge)) this.video.currentTime = edge;
    this.#start();
  }

  #say(text) {
    setText(this.message, text);
    this.message.hidden = false;
    this.#showState();
  }

  #showState() {
    const { video } = this;
    const moving = !video.paused && video.readyState >= 3;
    if (moving) this.message.hidden = true;
    setText(byId('player-state'), !this.#name ? 'idle' : moving ? 'playing' : video.paused && video.readyState >= 2 ? 'paused' : 'waiting');
  }

  #showFacts() {
    this.#showState();
    const { video } = this;
    const latency = this.#hls?.latency;
    setText(byId('player-latency'), latency > 0 ? `${latency.toFixed(1)} s` : '–');
    setText(byId('player-size'), video.videoWidth ? `${video.videoWidth} × ${video.videoHeight}` : '–');
    const quality = video.getVideoPlaybackQuality?.();
    setText(byId('player-dropped'), quality?.totalVideoFrames ? `${quality.droppedVideoFrames} of ${quality.totalVideoFrames}` : '–');
  }
}
