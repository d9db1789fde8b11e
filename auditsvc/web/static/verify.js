"use strict";
// Sends the dropped file to the API and shows the result; builds elements, never HTML from text.
const form = document.getElementById("drop"), input = document.getElementById("file"), output = document.getElementById("result");

function element(kind, text, name) {
  const made = document.createElement(kind);
  if (text !== undefined) made.textContent = text;
  if (name) made.className = name;
  return made;
}

async function check(file) {
  if (document.getElementById("identify")?.checked) return trace(file);
  output.replaceChildren(element("p", `Checking ${file.name} …`, "quiet"));
  const kind = file.name.endsWith(".tar") ? "application/x-tar" : "application/octet-stream";
  try {
    const answer = await fetch("/v1/verify", { method: "POST", body: file, headers: { "Content-Type": kind } });
    show(file, await answer.json(), answer.ok);
  } catch (error) {
    output.replaceChildren(element("p", `The service did not answer: ${error.message}`, "notice"));
  }
}

async function trace(file) {
  output.replaceChildren(element("p", `Comparing ${file.name} with every watermarked version …`, "quiet"));
  try {
    const answer = await fetch("/v1/identify", { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } });
    const result = await answer.json();
    if (!answer.ok) {
      output.replaceChildren(element("p", [result.detail, ...(result.reasons || [])].join("; "), "notice"));
      return;
    }
    const head = element("h2");
    head.append(element("span", result.verdict, `badge ${result.verdict === "MATCH" ? "VALID" : "UNKNOWN"}`), ` ${file.name}`);
    const parts = [head, element("p", result.sentence), element("p", `${result.tried} watermarked versions compared`, "quiet")];
    for (const match of result.matches)
      parts.push(element("p", `${match.model} ${match.version}${match.recipient ? ` for ${match.recipient}` : ""}: ${match.standing}, z ${match.z.toFixed(1)}`));
    for (const left of result.untried) parts.push(element("p", `skipped: ${left}`, "quiet"));
    output.replaceChildren(...parts);
  } catch (error) {
    output.replaceChildren(element("p", `The service did not answer: ${error.message}`, "notice"));
  }
}

function show(file, result, ok) {
  if (!ok) {
    output.replaceChildren(element("p", [result.detail, ...(result.reasons || [])].join("; "), "notice"));
    return;
  }
  const head = element("h2");
  head.append(element("span", result.verdict, `badge ${result.verdict}`), ` ${file.name}`);
  const parts = [head, element("p", result.message), element("p", `${result.digest} · ${result.size.toLocaleString("en")} bytes`, "quiet digest")];
  if (result.verification) {
    const list = element("ol", undefined, "steps");
    for (const step of result.verification.steps) {
      const line = element("li");
      line.append(element("span", step.ok ? "passed" : step.code, `badge ${step.ok ? "met" : "violated"}`), ` ${step.step}: ${step.detail}`);
      list.append(line);
    }
    parts.push(element("h3", "Verification steps"), list);
    for (const note of result.verification.notes) parts.push(element("p", note, "quiet"));
  }
  for (const origin of result.origins) {
    const line = element("p"), link = element("a", `${origin.kind} ${origin.digest.slice(7, 19)}`);
    link.href = origin.kind === "candidate" ? `/candidates/${origin.digest}` : origin.href;
    line.append(link, ` ${origin.relation}`);
    parts.push(line);
  }
  output.replaceChildren(...parts);
}

input.addEventListener("change", () => input.files.length && check(input.files[0]));
form.addEventListener("submit", (event) => event.preventDefault());
for (const name of ["dragover", "dragenter"]) form.addEventListener(name, (event) => { event.preventDefault(); form.classList.add("over"); });
form.addEventListener("dragleave", () => form.classList.remove("over"));
form.addEventListener("drop", (event) => {
  event.preventDefault();
  form.classList.remove("over");
  if (event.dataTransfer.files.length) check(event.dataTransfer.files[0]);
});
