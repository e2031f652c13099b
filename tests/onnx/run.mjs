// run.mjs - models exported as ONNX, run by onnxruntime: their logits are the
// reference's exact ones.
//
//   node run.mjs INFER_TRAIN ORACLE ONNXRUNTIME
//
// Each model's prompts go through one by one, and two of them again as a batch
// (the shorter one padded behind: no token sees what follows it).
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const [train, oracle, runtime] = process.argv.slice(2);
const ort = createRequire(resolve(runtime, 'x.js'))('onnxruntime-node');
if (!existsSync(oracle)) {
    console.log(`skipped: ${oracle} is not there`);
    process.exit(0);
}
const models = ['llama-b32', 'llama-ropefreqs', 'llama-yarn', 'llama-linear',
    'stories260K', 'gpt2', 'qwen2', 'qwen3'];
const LIMIT = 1e-4;

function floats(path) {
    const bytes = readFileSync(path);
    return new Float32Array(bytes.buffer.slice(bytes.byteOffset,
        bytes.byteOffset + bytes.length));
}

async function logits(session, rows) {
    const width = Math.max(...rows.map((r) => r.length));
    const ids = new BigInt64Array(rows.length * width);
    rows.forEach((row, b) => row.forEach((id, t) => {
        ids[b * width + t] = BigInt(id);
    }));
    const input = new ort.Tensor('int64', ids, [rows.length, width]);
    const { logits } = await session.run({ input_ids: input });
    const [B, T, V] = logits.dims;
    if (B !== rows.length || T !== width)
        throw new Error(`logits are ${logits.dims}`);
    return rows.map((row, b) => {
        const at = (b * width + row.length - 1) * V;
        return logits.data.slice(at, at + V);
    });
}

function distance(got, want) {
    let worst = 0;
    for (let i = 0; i < got.length; i++) {
        const d = Math.abs(got[i] - want[i]);
        worst = d <= worst ? worst : d; // a NaN stays
    }
    return worst;
}

async function check(name, folder) {
    const file = join(folder, `${name}.onnx`);
    execFileSync(train, ['export', '--format', 'onnx',
        join(oracle, name, 'model-F32.gguf'), file]);
    const session = await ort.InferenceSession.create(file);
    const cases = JSON.parse(readFileSync(join(oracle, name, 'cases.json')));
    const want = floats(join(oracle, name, 'F32.exact.f32'));
    const V = cases.n_vocab;
    const exact = (i) => want.subarray(i * V, (i + 1) * V);
    const ids = cases.prompts.map((p) => p.ids);
    let worst = 0;
    for (let i = 0; i < ids.length; i++)
        worst = Math.max(worst,
            distance((await logits(session, [ids[i]]))[0], exact(i)));
    const pair = await logits(session, [ids[0], ids[1]]);
    worst = Math.max(worst, distance(pair[0], exact(0)),
        distance(pair[1], exact(1)));
    return worst;
}

const folder = mkdtempSync(join(tmpdir(), 'infer-onnx-'));
let failed = 0;
try {
    for (const name of models) {
        const worst = await check(name, folder);
        const good = worst <= LIMIT;
        failed += !good;
        console.log(`  ${name}: logits differ by at most ${worst.toExponential(1)}`
            + (good ? '' : `, more than ${LIMIT}`));
    }
} finally {
    rmSync(folder, { recursive: true });
}
console.log(`${models.length - failed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
