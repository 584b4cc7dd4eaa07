// Opens the pages of smtpctl web as people do; test.sh starts what it needs.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createRequire } from "node:module";
import net from "node:net";

const { MODULES, BIN, SHOTS, READ, CHANGE } = process.env;
const { chromium } = createRequire(MODULES + "/")("playwright-core");
const hostile = `<script>document.title="taken"</script><img src=x onerror="document.title='taken'">`;

// A host that puts off what it is sent, with a reply that would like to be a page.
const sink = net.createServer((c) => {
  c.on("error", () => {});
  c.write("220 sink\r\n");
  let rest = "";
  c.on("data", (d) => {
    rest += d;
    for (let end; (end = rest.indexOf("\r\n")) >= 0; rest = rest.slice(end + 2)) {
      const verb = rest.slice(0, 4).toUpperCase();
      c.write(verb === "EHLO" ? "250 sink\r\n" : verb === "RCPT" ? `451 4.2.1 later ${hostile}\r\n` : verb === "QUIT" ? "221 bye\r\n" : "250 ok\r\n");
    }
  });
}).listen(10726, "127.0.0.1");
await once(sink, "listening");

const send = (from, ...to) =>
  execFileSync(`${BIN}/sendmail`, ["-f", from, ...to], { input: `Subject: one\n\nhello\n` });
const smtpctl = (...words) => spawnSync(`${BIN}/smtpctl`, words, { encoding: "utf8" }).stdout;
const until = async (what, f) => {
  for (const end = Date.now() + 60000; Date.now() < end; await new Promise((r) => setTimeout(r, 200))) {
    if (await f()) return;
  }
  assert.fail(`${what} did not happen`);
};
const smtpSession = (...lines) => new Promise((done) => {
  const c = net.connect(10725, "127.0.0.1");
  let all = "";
  c.on("data", (d) => {
    all += d;
    if (/^\d{3} [^\r\n]*\r\n$/m.test(String(d).split(/(?<=\r\n)/).at(-1))) {
      const next = lines.shift();
      if (next === undefined) c.end(); else c.write(next + "\r\n");
    }
  });
  c.on("close", () => done(all));
});

for (let i = 0; i < 12; i++) send(`writer${i}@example.org`, "anna@home.example");
for (let i = 0; i < 5; i++) send("friend@partner.example", "anna@home.example");
for (let i = 0; i < 7; i++) send("news@example.org", `reader${i}@unreachable.example`);
send(`"<script>alert(1)</script>"@example.org`, "boss@sink.example", "clerk@sink.example");
send("shop@example.org", "customer@held.example");
assert.match(await smtpSession("EHLO client.example", "MAIL FROM:<never-one@example.org>", "RCPT TO:<x@elsewhere.example>", "QUIT"), /^550 /m);

let queue = "";
await until("the tries", () => {
  queue = smtpctl("show", "queue");
  return queue.includes("taken") && queue.split("\n").filter((l) => l.includes("unreachable") && !l.endsWith("|")).length === 7;
});
const idOf = (text) => queue.split("\n").find((l) => l.includes(text)).slice(0, 16);
smtpctl("pause", "envelope", idOf("held.example"));
const hostileID = idOf("boss@sink.example"), plainID = idOf("reader3@");

const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
const problems = [];
const visit = async (address, options = {}) => {
  const context = await browser.newContext({ viewport: { width: 1200, height: 850 }, ...options });
  const page = await context.newPage();
  page.on("console", (m) => { if (["error", "warning"].includes(m.type())) problems.push(m.text()); });
  page.on("pageerror", (e) => problems.push(String(e)));
  page.on("request", (r) => { if (!r.url().startsWith(new URL(READ).origin)) problems.push(`asked for ${r.url()}`); });
  await page.addInitScript(() => document.addEventListener("securitypolicyviolation", (e) => console.error("policy", e.violatedDirective, e.blockedURI)));
  await page.goto(address);
  if (address.includes("token=")) await page.waitForURL("**/");
  return page;
};
const base = new URL(READ).origin;
const pages = {
  overview: ["/", "in the queue"], queue: ["/queue", "unreachable.example"], envelopes: [`/envelopes?where=${encodeURIComponent("tries > 0")}`, "reader3@unreachable.example"],
  message: [`/message/${hostileID.slice(0, 8)}`, "Why it waits"], deliveries: ["/deliveries", "Tries since"], rules: ["/rules", "The last decisions"],
  decision: ["/decision/3", "Decided by"], tables: ["/tables", "Questions"], filters: ["/filters", "Answers"], certificates: ["/certificates", "mx.example.org"],
};

// The plots have something to show once two samples are there.
await new Promise((r) => setTimeout(r, 11000));

for (const [look, options] of Object.entries({
  light: { colorScheme: "light" }, dark: { colorScheme: "dark" }, phone: { colorScheme: "light", viewport: { width: 390, height: 800 }, hasTouch: true },
  plain: { colorScheme: "light", javaScriptEnabled: false },
})) {
  const page = await visit(READ, options);
  for (const [name, [path, text]] of Object.entries(pages)) {
    const answer = await page.goto(base + path);
    assert.equal(answer.status(), 200, path);
    const body = await page.textContent("body");
    assert.ok(body.includes(text), `${path} does not say ${text}`);
    assert.ok(!(await page.title()).includes("taken"), `${path} was taken`);
    assert.equal(await page.locator("form[method=post]").count(), 0, `${path} offers changes`);
    assert.equal(await page.locator("main script, main img").count(), 0, `${path} has foreign markup`);
    const width = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]).catch(() => [0, 0]);
    assert.ok(width[0] <= width[1], `${path} is ${width[0]} wide in ${look}`);
    for (const table of await page.locator("table").all()) {
      assert.equal(await table.locator("caption").count(), 1, `${path}: a table without a caption`);
      assert.equal(await table.locator("th:not([scope])").count(), 0, `${path}: a head without a scope`);
    }
    for (const row of await page.locator("tbody tr:visible").all()) {
      const { height } = await row.boundingBox();
      assert.ok(height < 200, `${path}: a row is ${height} high in ${look}`);
    }
    await page.screenshot({ path: `${SHOTS}/${name}-${look}.png`, fullPage: true });
  }
  await page.context().close();
}
assert.ok((await (await visit(READ)).goto(`${base}/message/${hostileID}`)).ok());

// A page that is left open follows what happens.
const left = await visit(READ);
const seen = await left.textContent("#seen");
await left.waitForFunction((was) => document.getElementById("seen").textContent !== was, seen, { timeout: 60000 });
assert.equal(await left.locator("main").count(), 1);

// Every link of the bar is reached by the keyboard, in its order.
const keys = await visit(READ);
await keys.keyboard.press("Tab");
assert.equal(await keys.evaluate(() => document.activeElement.className), "skip");
for (const name of Object.keys(pages).filter((n) => !["envelopes", "message", "decision"].includes(n))) {
  await keys.keyboard.press("Tab");
  assert.equal((await keys.evaluate(() => document.activeElement.textContent)).toLowerCase(), name);
}

// What may read only is refused a change that it makes up.
const refused = await keys.evaluate(async () => (await fetch("/envelope", { method: "POST", body: new URLSearchParams({ verb: "remove", id: "0" }) })).status);
assert.equal(refused, 403);
problems.splice(0, problems.length, ...problems.filter((p) => !p.includes("403")));

// With the second right: hold, release, remove, pause, resume.
const hand = await visit(CHANGE);
await hand.goto(`${base}/message/${plainID.slice(0, 8)}`);
await hand.screenshot({ path: `${SHOTS}/message-change.png`, fullPage: true });
const state = () => hand.textContent("article .badge");
await hand.click("button[value=hold]");
assert.equal(await state(), "held");
await hand.click("button[value=release]");
assert.equal(await state(), "pending");
await hand.click("summary");
problems.length === 0 || assert.fail(problems.join("\n"));
await hand.click("button.danger");
assert.ok((await hand.textContent("body")).includes("is not in the queue"));
assert.ok(!smtpctl("show", "queue").includes(plainID));
problems.splice(0, problems.length, ...problems.filter((p) => !p.includes("404")));
await hand.goto(base + "/");
await hand.screenshot({ path: `${SHOTS}/overview-change.png`, fullPage: true });
await hand.click("button:has-text('Pause sending on')");
assert.ok(smtpctl("show", "status").includes("MTA paused"));
await hand.click("button:has-text('Resume sending on')");
assert.ok(smtpctl("show", "status").includes("MTA running"));

// Without a token, and under another name, nothing is seen.
const stranger = await visit(base + "/queue");
assert.ok(!(await stranger.textContent("body")).includes("unreachable"));
problems.splice(0, problems.length, ...problems.filter((p) => !p.includes("401")));

assert.deepEqual(problems, []);
await browser.close();
console.log("every page was seen");
process.exit(0);
