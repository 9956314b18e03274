/** Sound: record the microphone, and write WAV with 16,000 samples a second, as Gemma 4 reads it. */

export const SAMPLE_RATE = 16_000;
const MAX_SECONDS = 300; // a choice: ten windows of the audio encoder

/** Records the microphone. `onLevel` gets the seconds and the level, 0 to 1. */
export class Recorder {
  /**
   * @param {(seconds: number, level: number) => void} onLevel
   * @param {() => void} onFull after MAX_SECONDS
   */
  constructor(onLevel, onFull) {
    this.onLevel = onLevel;
    this.onFull = onFull;
    /** @type {Float32Array[]} */
    this.pieces = [];
    /** @type {MediaStream | null} */
    this.stream = null;
    /** @type {AudioContext | null} */
    this.context = null;
  }

  get isRecording() {
    return this.stream !== null;
  }

  /** Begins; the browser asks the user for the microphone. */
  async start() {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
    const context = new AudioContext({ sampleRate: SAMPLE_RATE });
    try {
      await context.audioWorklet.addModule("/page/recorder-worklet.js");
    } catch (error) { // such as: the server does not answer
      for (const track of stream.getTracks()) track.stop();
      void context.close();
      throw error;
    }
    const node = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0 });
    this.pieces = [];
    let nSamples = 0;
    node.port.onmessage = ({ data }) => {
      if (!this.isRecording) return;
      this.pieces.push(data);
      nSamples += data.length;
      // The root mean square of speech is far below 1: four times that, a choice, moves the meter.
      this.onLevel(nSamples / SAMPLE_RATE, Math.min(1, 4 * measureLevel(data)));
      if (nSamples >= MAX_SECONDS * SAMPLE_RATE) this.onFull();
    };
    context.createMediaStreamSource(stream).connect(node);
    this.stream = stream;
    this.context = context;
  }

  /** Ends the recording and returns its samples. */
  async stop() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    await this.context?.close();
    this.stream = this.context = null;
    const samples = new Float32Array(this.pieces.reduce((sum, piece) => sum + piece.length, 0));
    let at = 0;
    for (const piece of this.pieces) {
      samples.set(piece, at);
      at += piece.length;
    }
    this.pieces = [];
    return samples;
  }
}

/**
 * Returns the root mean square of samples.
 *
 * @param {Float32Array} samples
 */
export function measureLevel(samples) {
  return Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
}

/**
 * Returns samples as a WAV file: one channel, 16 bits.
 *
 * @param {Float32Array} samples from -1 to 1
 */
export function encodeWav(samples) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const write = (/** @type {number} */ at, /** @type {string} */ text) =>
    [...text].forEach((char, index) => view.setUint8(at + index, char.charCodeAt(0)));
  write(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  write(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true);
  view.setUint32(24, SAMPLE_RATE, true);
  view.setUint32(28, 2 * SAMPLE_RATE, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  write(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, index) =>
    view.setInt16(44 + 2 * index, Math.max(-1, Math.min(1, sample)) * 32767, true));
  return new Blob([view], { type: "audio/wav" });
}

/**
 * Returns a sound file of any format that the browser reads as WAV.
 *
 * @param {Blob} blob
 */
export async function toWav(blob) {
  const context = new OfflineAudioContext(1, 1, SAMPLE_RATE);
  let sound;
  try {
    sound = await context.decodeAudioData(await blob.arrayBuffer());
  } catch {
    throw new Error("The browser cannot read this sound.");
  }
  const mono = new Float32Array(sound.length);
  for (let channel = 0; channel < sound.numberOfChannels; channel++) {
    sound.getChannelData(channel).forEach((sample, index) =>
      (mono[index] += sample / sound.numberOfChannels));
  }
  return encodeWav(mono);
}
