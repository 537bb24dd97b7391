import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";

export type AuditReport = { readonly clean: boolean; readonly report: string };

/** What `npm run audit` says of a run that has stopped; it ends with another code than 0 when something is wrong. */
export async function auditRun(dir: string, name: string): Promise<AuditReport> {
  const program = join(import.meta.dirname, "../../coordinator/auditMain.ts");
  const child = spawn(process.execPath, [program, "--run", name, "--runs-dir", join(dir, "runs")]);
  let report = "";
  child.stdout.on("data", (data: Buffer) => (report += data.toString()));
  child.stderr.on("data", (data: Buffer) => (report += data.toString()));
  const [code] = (await once(child, "close")) as [number | null];
  return { clean: code === 0, report };
}
