/** Runs in the thread of the sound: collects samples and sends them to the page ten times a second. */

// @ts-nocheck: the types of this thread are not those of the page
const SAMPLES = 1600; // a tenth of a second at SAMPLE_RATE (sound.js)

class RecorderProcessor extends AudioWorkletProcessor {
  constructor() {
    super();
    this.samples = new Float32Array(SAMPLES);
    this.n = 0;
  }

  process([input]) {
    for (const sample of input[0] ?? []) {
      this.samples[this.n++] = sample;
      if (this.n === SAMPLES) {
        this.port.postMessage(this.samples.slice());
        this.n = 0;
      }
    }
    return true;
  }
}

registerProcessor("recorder", RecorderProcessor);
