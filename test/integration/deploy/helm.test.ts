/**
 * @file The Helm chart, rendered and held against the schemas of Kubernetes and the Prometheus operator. By helm itself where it
 * is installed; else by Go's own templates with sprig, which is what helm renders with (test/support/helm/render.go).
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parseAllDocuments, stringify } from "yaml";
import { parseArguments } from "../../../coordinator/settings/config.ts";
import { parseWorkerArguments } from "../../../worker-node/config.ts";

const chart = "deploy/helm/manyhands";
/** Where Debian keeps the sources of sprig (golang-github-masterminds-sprig-dev) and yaml (golang-k8s-sigs-yaml-dev). */
const GOPATH = "/usr/share/gocode";
const missing =
  "neither helm nor Go with sprig (Debian: golang-go golang-github-masterminds-sprig-dev golang-k8s-sigs-yaml-dev)";

type Manifest = {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string };
  // oxlint-disable-next-line typescript/no-explicit-any -- whatever the schemas say
  readonly spec?: any;
};
type Rendered = { readonly ok: true; readonly manifests: readonly Manifest[] } | { readonly ok: false; readonly problem: string }; // prettier-ignore

const tool = succeeds("helm", ["version"]) ? "helm" : succeeds("go", ["version"]) ? "go" : null;
if (tool === null && process.env["CI"] === "true") throw new Error(missing);

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "manyhands-helm-"));
  if (tool !== "go") return;
  const env = { ...process.env, GO111MODULE: "off", GOPATH, GOCACHE: join(tmpdir(), "manyhands-gocache"), GOFLAGS: "" };
  execFileSync("go", ["build", "-o", join(dir, "render"), resolve("test/support/helm/render.go")], { env });
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

function render(values: Record<string, unknown>): Rendered {
  const file = join(dir, "values.yaml");
  writeFileSync(file, stringify(values));
  const [command, args] = tool === "helm" ? ["helm", ["template", "demo", chart, "-f", file]] : [join(dir, "render"), [chart, "demo", file]]; // prettier-ignore
  try {
    const text = execFileSync(command, args, { encoding: "utf8", stdio: "pipe" });
    const documents = parseAllDocuments(text, { uniqueKeys: true });
    for (const { errors } of documents) if (errors[0] !== undefined) throw errors[0];
    return { ok: true, manifests: documents.flatMap((document) => (document.toJS() as Manifest | null) ?? []) };
  } catch (error) {
    const { stderr, message } = error as { stderr?: string; message: string };
    return { ok: false, problem: stderr ?? message };
  }
}

function manifestsOf(values: Record<string, unknown>): readonly Manifest[] {
  const rendered = render(values);
  if (!rendered.ok) throw new Error(rendered.problem);
  return rendered.manifests;
}

/** @throws Error of the schema of the manifest's own kind. */
async function validate(manifest: Manifest): Promise<void> {
  const { apiVersion, kind } = manifest;
  const library = apiVersion.startsWith("monitoring.coreos.com") ? "@kubernetes-models/prometheus-operator" : "kubernetes-models"; // prettier-ignore
  const models = (await import(`${library}/${apiVersion}/${kind}`)) as Record<string, new (data: unknown) => { validate: () => void }>; // prettier-ignore
  new models[kind]!(manifest).validate();
}

const everything = {
  token: "secret",
  flags: ["--preset", "small", "--steps", "5000"],
  coordinator: { trustProxy: ["10.0.0.0/8"], storage: { storageClassName: "fast" }, nodeSelector: { disk: "ssd" }, tolerations: [{ key: "a", operator: "Exists" }] },
  worker: { nodeSelector: { pool: "spot" }, tolerations: [{ key: "spot", operator: "Exists" }] },
  ingress: { enabled: true, annotations: { "cert-manager.io/cluster-issuer": "letsencrypt" } },
  serviceMonitor: { enabled: true, labels: { release: "prometheus" } },
  otlpEndpoint: "http://otel-collector.monitoring:4318",
}; // prettier-ignore

const kinds = (manifests: readonly Manifest[]): string[] => manifests.map(({ kind }) => kind).sort();

chartTest("with a token alone: what a run needs, and every manifest fits its schema", async () => {
  const manifests = manifestsOf({ token: "secret" });
  expect(kinds(manifests)).toEqual(["Deployment", "HorizontalPodAutoscaler", "NetworkPolicy", "NetworkPolicy", "PodDisruptionBudget", "Secret", "Service", "StatefulSet"]); // prettier-ignore
  for (const manifest of manifests) await validate(manifest);
});

chartTest("with everything switched on", async () => {
  const manifests = manifestsOf(everything);
  expect(kinds(manifests)).toEqual(["Deployment", "HorizontalPodAutoscaler", "Ingress", "NetworkPolicy", "NetworkPolicy", "PodDisruptionBudget", "Secret", "Service", "ServiceMonitor", "StatefulSet"]); // prettier-ignore
  for (const manifest of manifests) await validate(manifest);
  const ingress = manifests.find(({ kind }) => kind === "Ingress") as unknown as { metadata: { annotations: object } };
  expect(ingress.metadata.annotations).toMatchObject({ "cert-manager.io/cluster-issuer": "letsencrypt", "nginx.ingress.kubernetes.io/proxy-body-size": "0" }); // prettier-ignore
});

chartTest("with an existing secret and a fixed number of workers", async () => {
  const manifests = manifestsOf({ existingSecret: "mine", worker: { replicas: 5, autoscaling: { enabled: false } }, networkPolicy: { enabled: false } }); // prettier-ignore
  expect(kinds(manifests)).toEqual(["Deployment", "PodDisruptionBudget", "Service", "StatefulSet"]);
  for (const manifest of manifests) await validate(manifest);
  expect(manifests.find(({ kind }) => kind === "Deployment")?.spec.replicas).toBe(5);
});

chartTest("without a token it says what to give", async () => {
  expect(render({})).toMatchObject({ ok: false, problem: expect.stringContaining("token: give one (openssl rand -hex 16)") as string }); // prettier-ignore
});

chartTest("a manifest that is wrong would be found", async () => {
  const wrong = structuredClone(manifestsOf({ token: "x" }).find(({ kind }) => kind === "StatefulSet")!);
  wrong.spec.template.spec.containers[0].ports[0].containerPort = "http";
  await expect(validate(wrong)).rejects.toThrow(/containerPort/);
});

chartTest("the programs take the arguments that the chart gives them", async () => {
  const manifests = manifestsOf(everything);
  const argumentsOf = (wanted: string): string[] =>
    manifests.find(({ kind }) => kind === wanted)?.spec.template.spec.containers[0].args as string[];
  expect(parseArguments(argumentsOf("StatefulSet")).given.get("model.preset")?.value).toBe("small");
  expect(parseWorkerArguments(argumentsOf("Deployment")).url).toBe("http://demo-coordinator:8080");
});

chartTest("selectors find the pods, and the service the port", async () => {
  const manifests = manifestsOf(everything);
  for (const { spec } of manifests.filter(({ kind }) => kind === "StatefulSet" || kind === "Deployment")) {
    expect(spec.template.metadata.labels).toMatchObject(spec.selector.matchLabels);
  }
  const { spec } = manifests.find(({ kind }) => kind === "Service")!;
  const pod = manifests.find(({ kind }) => kind === "StatefulSet")!.spec.template;
  expect(pod.metadata.labels).toMatchObject(spec.selector);
  expect(pod.spec.containers[0].ports.map(({ name }: { name: string }) => name)).toContain(spec.ports[0].targetPort);
});

function chartTest(name: string, body: () => Promise<void>): void {
  if (tool === null) test(name, (context) => context.skip(missing));
  else test(name, body);
}

function succeeds(command: string, args: readonly string[]): boolean {
  try {
    execFileSync(command, [...args], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}
