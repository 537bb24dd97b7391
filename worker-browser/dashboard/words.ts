/** @file What the dashboard says, in each language. */
import { about, count, duration, exact, fixed, percent, time } from "../pages/format.ts";
import { language, type Translated } from "../pages/language.ts";
import type { Health, Learning, Scale, Slow } from "./answers.ts";

const en = {
  title: "Dashboard",
  step: (version: number, steps: number) => `step ${exact(version)} of ${exact(steps)}`,
  parameters: (value: number) => `${about(value)} parameters`,
  phases: { working: "working", committing: "working", paused: "paused", finished: "finished", failed: "failed" } as Readonly<Record<string, string>>, // prettier-ignore
  connecting: "Connecting to the coordinator…",
  lost: (sinceMs: number) =>
    `No connection since ${time(sinceMs)}. Trying again by itself; the figures below are from then.`,
  restarted: (ms: number) =>
    `The coordinator was started again at ${time(ms)} and went on from its last committed step.`,
  dismiss: "Dismiss",
  questions: {
    healthy: "Is it healthy?",
    learning: "Is it learning?",
    slow: "Who is slow?",
    more: "What would more workers bring?",
  },
  unknown: "Too early to say.",
  health: (health: Health): string => {
    switch (health.is) {
      case "working":
        return `Yes: a round every ${duration(health.roundMs)} by ${health.workers} ${health.workers === 1 ? "worker" : "workers"}.`;
      case "finished":
        return "Finished: all steps are done.";
      case "paused":
        return "Paused.";
      case "joining":
        return "Workers are loading the model.";
      case "stalled":
        return `No round for ${duration(health.forMs)}; they take ${duration(health.roundMs)}.`;
      case "failed":
        return "No: the run has failed.";
      case "noWorkers":
        return "No: there is no worker.";
      case "unreachable":
        return "The coordinator does not answer.";
      case "unknown":
        return en.unknown;
      default:
        return health satisfies never;
    }
  },
  learning: (learning: Learning): string => {
    if (learning.is === "unknown") return en.unknown;
    const change = `${fixed(Math.abs(learning.change), 3)} over ${count(learning.rounds)} steps`;
    const verb = { falling: `Yes: the loss fell by ${change}`, flat: `The loss stays where it is (±${change})`, rising: `No: the loss rose by ${change}` }[learning.is]; // prettier-ignore
    const gap = learning.gap === null ? "" : ` Validation is ${fixed(Math.abs(learning.gap), 3)} ${learning.gap < 0 ? "below" : "above"} training.`; // prettier-ignore
    return `${verb}, to ${fixed(learning.loss, 3)}.${gap}`;
  },
  slow: ({ workers, waiting, medianTokensPerSecond }: Slow): string => {
    if (medianTokensPerSecond === null) return en.unknown;
    const held = waiting === 0 ? "" : ` ${waiting} ${waiting === 1 ? "waits" : "wait"}, so that nobody waits for them.`;
    if (workers.length === 0)
      return `Nobody stands out; the median is ${count(medianTokensPerSecond)} tokens/s.${held}`;
    const names = workers.slice(0, 3).map(({ worker, ofMedian }) => `${worker.name || worker.worker} (${percent(ofMedian)})`); // prettier-ignore
    const more = workers.length > 3 ? ` and ${workers.length - 3} more` : "";
    return `Under a third of the median of ${count(medianTokensPerSecond)} tokens/s: ${names.join(", ")}${more}.${held}`;
  },
  more: (scale: Scale): string => {
    if (scale.is === "unknown") return en.unknown;
    const efficiency = scale.efficiency === null ? "" : ` Measured efficiency: ${percent(scale.efficiency)}.`;
    return `${percent(scale.computing)} of a round is computing, so twice the workers would be about ${fixed(scale.twice, 2)}× as fast.${efficiency}`;
  },
  charts: {
    all: "Charts",
    loss: "Loss",
    train: "training",
    band: "least and greatest",
    validation: "validation",
    nats: "nats per token",
    speed: "Tokens per second",
    tokensPerSecond: "tokens/s",
    workers: "workers",
    round: "Round time",
    compute: "compute",
    transfer: "transfer and waiting",
    merge: "merge and step",
    ms: "ms",
    norm: "Gradient norm",
    mean: "mean",
    rate: "Learning rate",
    traffic: "Bytes per second",
    received: "from workers",
    sent: "to workers",
    scaling: "Speed by number of workers",
    measured: "measured",
    ideal: "ideal",
    zoomHint: "Drag over a chart to look at a part of the run.",
    from: "From step",
    to: "to",
    show: "Show",
    showAll: "Show all",
    points: (span: number): string => (span === 1 ? "every step" : `each point is the mean of ${count(span)} steps`),
    nothing: "No round is committed yet.",
    efficiency: "efficiency",
    rounds: "rounds",
  },
  workers: {
    title: "Workers",
    none: "Nobody is here yet.",
    filter: "Filter by name or backend",
    name: "Worker",
    device: "Machine",
    tab: "a browser tab",
    backend: "Computes on",
    speed: "Tokens/s",
    sorted: "Sorted every ten seconds; no row moves while you are at one of its buttons",
    share: "Share",
    behind: "Behind",
    leases: "Leases",
    refused: "Refused",
    waiting: "Waits because",
    actions: "Actions",
    joining: "joining",
    strikes: (strikes: number) => `${strikes} in a row`,
    fallback: (backend: string, reason: string, inPart: boolean) =>
      `${backend} is ${inPart ? "used only in part" : "not used"}: ${reason}`,
    page: (from: number, to: number, all: number) => `${from} to ${to} of ${all}`,
    previous: "Previous",
    next: "Next",
    kick: "Kick",
    ban: "Ban",
    kickWho: (name: string) => `Kick ${name}`,
    banWho: (name: string) => `Ban ${name}`,
    sureBan: (name: string) => `Ban ${name}? It is sent away and may not come back.`,
  },
  events: { title: "Events", time: "Time", code: "Code", text: "What happened", none: "Nothing happened yet.", filter: "Filter by code or text" }, // prettier-ignore
  checkpoints: {
    title: "Checkpoints",
    version: "Step",
    hash: "Hash",
    size: "Size",
    validation: "Validation loss",
    saved: "Saved",
    now: "now, from memory",
    download: "Download",
    downloadWhich: (version: number) => `Download step ${version}`,
    look: "Look at it",
    none: "None yet.",
  },
  admin: {
    pause: "Pause",
    resume: "Resume",
    snapshot: "Save a checkpoint",
    stop: "Stop the run",
    sureStop: "Stop the run? It is saved, and the same command goes on from there.",
    signIn: "Admin token",
    why: "This changes the run, so it asks for the coordinator's admin token. It is kept in this tab only.",
    token: "Token",
    go: "Go on",
    cancel: "Cancel",
    forget: "Forget the admin token",
    done: (action: string) => `Done: ${action}.`,
    refused: (message: string) => `Refused: ${message}`,
    failed: (message: string) => `It did not work: ${message}`,
  },
  invites: {
    title: "Invites",
    about: "An address with an invite in it, for whoever should be able to join.",
    hours: "Valid for (hours)",
    uses: "Times it can be used",
    name: "For whom",
    create: "Make an invite",
    list: "Show invites",
    qr: "QR code of the invite's address",
    copy: "Copy the address",
    copied: "Copied.",
    expires: "Valid until",
    used: "Used",
    revoke: "Revoke",
    revoked: "revoked",
    none: "There are none.",
  },
  bans: {
    title: "Bans",
    about: "Workers that were sent away for good. Lifting a ban lets that worker join again.",
    list: "Show bans",
    worker: "Worker",
    since: "Since",
    reason: "Reason",
    lift: "Lift",
    liftWho: (worker: string) => `Lift the ban of ${worker}`,
    none: "Nobody is banned.",
  },
};

export type Words = typeof en;

const zh: Words = {
  title: "控制台",
  step: (version, steps) => `第 ${exact(version)} / ${exact(steps)} 步`,
  parameters: (value) => `${about(value)} 个参数`,
  phases: { working: "进行中", committing: "进行中", paused: "已暂停", finished: "已完成", failed: "失败" },
  connecting: "正在连接协调器……",
  lost: (sinceMs) => `自 ${time(sinceMs)} 起失去连接，正在自动重试；下面是当时的数据。`,
  restarted: (ms) => `协调器已于 ${time(ms)} 重新启动，并从最后提交的一步继续。`,
  dismiss: "知道了",
  questions: {
    healthy: "运行正常吗？",
    learning: "模型在进步吗？",
    slow: "谁比较慢？",
    more: "更多工作者能带来什么？",
  },
  unknown: "现在还看不出来。",
  health: (health) => {
    switch (health.is) {
      case "working":
        return `正常：${health.workers} 个工作者，每 ${duration(health.roundMs)} 一轮。`;
      case "finished":
        return "所有步骤已完成。";
      case "paused":
        return "已暂停。";
      case "joining":
        return "工作者正在加载模型。";
      case "stalled":
        return `已有 ${duration(health.forMs)} 没有完成一轮；平时一轮需要 ${duration(health.roundMs)}。`;
      case "failed":
        return "不正常：运行已失败。";
      case "noWorkers":
        return "不正常：没有工作者。";
      case "unreachable":
        return "协调器没有回应。";
      case "unknown":
        return zh.unknown;
      default:
        return health satisfies never;
    }
  },
  learning: (learning) => {
    if (learning.is === "unknown") return zh.unknown;
    const change = `${count(learning.rounds)} 步内 ${fixed(Math.abs(learning.change), 3)}`;
    const verb = { falling: `是的：损失下降（${change}）`, flat: `损失持平（${change}）`, rising: `没有：损失上升（${change}）` }[learning.is]; // prettier-ignore
    const gap = learning.gap === null ? "" : `验证损失比训练损失${learning.gap < 0 ? "低" : "高"} ${fixed(Math.abs(learning.gap), 3)}。`; // prettier-ignore
    return `${verb}，现在是 ${fixed(learning.loss, 3)}。${gap}`;
  },
  slow: ({ workers, waiting, medianTokensPerSecond }) => {
    if (medianTokensPerSecond === null) return zh.unknown;
    const held = waiting === 0 ? "" : `有 ${waiting} 个在等待，以免拖慢别人。`;
    if (workers.length === 0) return `没有特别慢的；中位数为每秒 ${count(medianTokensPerSecond)} 个词元。${held}`;
    const names = workers.slice(0, 3).map(({ worker, ofMedian }) => `${worker.name || worker.worker}（${percent(ofMedian)}）`); // prettier-ignore
    const more = workers.length > 3 ? `等 ${workers.length} 个` : "";
    return `低于中位数（每秒 ${count(medianTokensPerSecond)} 个词元）三分之一的：${names.join("、")}${more}。${held}`;
  },
  more: (scale) => {
    if (scale.is === "unknown") return zh.unknown;
    const efficiency = scale.efficiency === null ? "" : `实测效率 ${percent(scale.efficiency)}。`;
    return `一轮中 ${percent(scale.computing)} 的时间在计算，工作者加倍后速度约为 ${fixed(scale.twice, 2)} 倍。${efficiency}`;
  },
  charts: {
    all: "图表",
    loss: "损失",
    train: "训练",
    band: "最小与最大",
    validation: "验证",
    nats: "奈特/词元",
    speed: "每秒词元数",
    tokensPerSecond: "词元/秒",
    workers: "工作者",
    round: "每轮时间",
    compute: "计算",
    transfer: "传输与等待",
    merge: "合并与更新",
    ms: "毫秒",
    norm: "梯度范数",
    mean: "平均",
    rate: "学习率",
    traffic: "每秒字节数",
    received: "来自工作者",
    sent: "发给工作者",
    scaling: "速度与工作者数",
    measured: "实测",
    ideal: "理想",
    zoomHint: "在图上拖动可放大一段。",
    from: "从第",
    to: "步到第",
    show: "显示",
    showAll: "显示全部",
    points: (span) => (span === 1 ? "每一步" : `每个点是 ${count(span)} 步的平均`),
    nothing: "还没有完成任何一轮。",
    efficiency: "效率",
    rounds: "轮数",
  },
  workers: {
    title: "工作者",
    none: "还没有人加入。",
    filter: "按名称或后端筛选",
    name: "工作者",
    device: "机器",
    tab: "浏览器标签页",
    backend: "计算后端",
    speed: "词元/秒",
    sorted: "每十秒排序一次；指向某行的按钮时，各行不动",
    share: "占比",
    behind: "落后版本",
    leases: "租约",
    refused: "被拒",
    waiting: "等待原因",
    actions: "操作",
    joining: "加入中",
    strikes: (strikes) => `连续 ${strikes} 次`,
    fallback: (backend, reason, inPart) =>
      inPart ? `${backend} 仅部分使用：${reason}` : `未使用 ${backend}：${reason}`,
    page: (from, to, all) => `第 ${from}–${to} 个，共 ${all} 个`,
    previous: "上一页",
    next: "下一页",
    kick: "移出",
    ban: "封禁",
    kickWho: (name) => `移出 ${name}`,
    banWho: (name) => `封禁 ${name}`,
    sureBan: (name) => `封禁 ${name}？它会被移出，并且不能再加入。`,
  },
  events: { title: "事件", time: "时间", code: "代码", text: "内容", none: "还没有事件。", filter: "按代码或内容筛选" },
  checkpoints: {
    title: "检查点",
    version: "步",
    hash: "哈希",
    size: "大小",
    validation: "验证损失",
    saved: "保存时间",
    now: "当前（在内存中）",
    download: "下载",
    downloadWhich: (version) => `下载第 ${version} 步`,
    look: "看看它",
    none: "还没有。",
  },
  admin: {
    pause: "暂停",
    resume: "继续",
    snapshot: "保存检查点",
    stop: "停止运行",
    sureStop: "停止运行？进度会保存，用同一命令即可继续。",
    signIn: "管理令牌",
    why: "此操作会改变运行，因此需要协调器的管理令牌。令牌只保存在此标签页。",
    token: "令牌",
    go: "继续",
    cancel: "取消",
    forget: "忘记管理令牌",
    done: (action) => `完成：${action}。`,
    refused: (message) => `被拒绝：${message}`,
    failed: (message) => `没有成功：${message}`,
  },
  invites: {
    title: "邀请",
    about: "带有邀请的地址，发给可以加入的人。",
    hours: "有效期（小时）",
    uses: "可使用次数",
    name: "给谁",
    create: "生成邀请",
    list: "显示邀请",
    qr: "邀请地址的二维码",
    copy: "复制地址",
    copied: "已复制。",
    expires: "有效至",
    used: "已使用",
    revoke: "撤销",
    revoked: "已撤销",
    none: "还没有。",
  },
  bans: {
    title: "封禁",
    about: "被永久移出的工作者。解除后可以再次加入。",
    list: "显示封禁",
    worker: "工作者",
    since: "自",
    reason: "原因",
    lift: "解除",
    liftWho: (worker) => `解除对 ${worker} 的封禁`,
    none: "没有人被封禁。",
  },
};

const translated: Translated<Words> = { en, zh };

export function words(): Words {
  return translated[language.value];
}
