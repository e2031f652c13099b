// server.js - start inferd on a free port, with models of random weights.
import { execFileSync, spawn } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import path from "node:path";

const top = process.env.TOP;
const program = path.resolve(top, process.env.INFERD ?? "bin/inferd");

// ChatML, as its Jinja program begins.
const template =
  "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + " +
  "message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}";

function write(name, call) {
  const file = path.resolve(name + ".gguf");
  if (existsSync(file)) return file;
  execFileSync(process.env.PYTHON ?? "python3", ["-c", `
import sys
sys.path.insert(0, sys.argv[1])
import tinymodel
tinymodel.${call}`, path.join(top, "tests/http"), file, template]);
  return file;
}

const model = (name, sizes) => write(name, `write(sys.argv[2], ${sizes},
  template=sys.argv[3], extra=[("<|im_start|>", 0.0, 3), ("<|im_end|>", 0.0, 3)])`);

// small: quick answers; slow: one that is still running when it is looked at.
export const small = model("small", "d=64, layers=3, ctx=512");
export const slow = model("slow", "d=512, layers=6, heads=8, ff=1536, ctx=8192");

export const embedder = write("embedder", "write_encoder(sys.argv[2], d=64)");

export class Server {
  static async start(config, listen = "127.0.0.1:0") {
    const s = new Server();
    writeFileSync("config.json", JSON.stringify(config));
    s.process = spawn(program, ["--config", "config.json", "--listen",
      listen, "--log-level", "warn"], { stdio: ["ignore", "pipe", "inherit"] });
    const line = await new Promise((resolve, reject) => {
      s.process.once("exit", (code) => reject(new Error(`inferd: ${code}`)));
      s.process.stdout.once("data", (data) => resolve(String(data)));
    });
    s.url = line.match(/listening on (\S+)/)[1];
    return s;
  }

  async metric(name) {
    const text = await (await fetch(this.url + "/metrics")).text();
    return text.split("\n").filter((l) => l.startsWith(name))
      .reduce((sum, l) => sum + Number(l.split(" ").pop()), 0);
  }

  async until(name, wanted, ms = 5000) {
    const end = Date.now() + ms;
    while (!wanted(await this.metric(name))) {
      if (Date.now() > end) throw new Error(`${name} stays ${await this.metric(name)}`);
      await new Promise((r) => setTimeout(r, 10));
    }
  }

  // Until no sequence waits and none runs. The queue first: between the end of
  // one and the start of the next in line, none runs either.
  async idle() {
    await this.until("inferd_queue_requests", (v) => v === 0);
    await this.until("inferd_requests_running", (v) => v === 0);
  }

  async stop() {
    const done = new Promise((resolve) => this.process.once("exit", resolve));
    this.process.kill("SIGTERM");
    return done;
  }
}
