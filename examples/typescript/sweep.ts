// Trains three widths, waits for them, and prints the sparsity after the last epoch.
import { Fflab } from "./client.ts";

declare const process: { env: Record<string, string | undefined> }; // spares @types/node
const lab = new Fflab(process.env["FFLAB_URL"], process.env["FFLAB_API_KEY"]);
const study = await lab.submit(
  {
    kind: "study",
    base: { kind: "train", epochs: 3 },
    grid: { "network.widths": [[64], [128], [256]] },
  },
  { name: "three widths" },
);
console.log(`submitted ${study.id}`);
const ended = await lab.ended(study.id);
if (ended.state !== "succeeded") throw new Error(ended.error?.detail ?? ended.state);
for await (const run of lab.jobs({ parent: study.id })) {
  const last = (await lab.rows(run.id)).at(-1);
  console.log(run.id, last?.["split"], last?.["sparsity"]);
}
