"use strict";
// Sends the dropped file to the API and shows what came out; builds elements, never HTML from text.
const form = document.getElementById("drop"), input = document.getElementById("file"), found = document.getElementById("found");

function element(kind, text, name) {
  const made = document.createElement(kind);
  if (text !== undefined) made.textContent = text;
  if (name) made.className = name;
  return made;
}

async function check(file) {
  if (document.getElementById("identify")?.checked) return trace(file);
  found.replaceChildren(element("p", `Checking ${file.name} …`, "quiet"));
  const kind = file.name.endsWith(".tar") ? "application/x-tar" : "application/octet-stream";
  try {
    const answer = await fetch("/v1/verify", { method: "POST", body: file, headers: { "Content-Type": kind } });
    show(file, await answer.json(), answer.ok);
  } catch (error) {
    found.replaceChildren(element("p", `The service did not answer: ${error.message}`, "notice"));
  }
}

async function trace(file) {
  found.replaceChildren(element("p", `Comparing ${file.name} with every marked version …`, "quiet"));
  try {
    const answer = await fetch("/v1/identify", { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } });
    const told = await answer.json();
    if (!answer.ok) {
      found.replaceChildren(element("p", [told.detail, ...(told.reasons || [])].join("; "), "notice"));
      return;
    }
    const head = element("h2");
    head.append(element("span", told.verdict, `standing ${told.verdict === "MATCH" ? "VALID" : "UNKNOWN"}`), ` ${file.name}`);
    const parts = [head, element("p", told.sentence), element("p", `${told.tried} marked versions were tried`, "quiet")];
    for (const match of told.matches)
      parts.push(element("p", `${match.model} ${match.version}${match.recipient ? ` for ${match.recipient}` : ""}: ${match.standing}, z ${match.z.toFixed(1)}`));
    for (const left of told.untried) parts.push(element("p", `not tried: ${left}`, "quiet"));
    found.replaceChildren(...parts);
  } catch (error) {
    found.replaceChildren(element("p", `The service did not answer: ${error.message}`, "notice"));
  }
}

function show(file, told, ok) {
  if (!ok) {
    found.replaceChildren(element("p", [told.detail, ...(told.reasons || [])].join("; "), "notice"));
    return;
  }
  const head = element("h2");
  head.append(element("span", told.verdict, `standing ${told.verdict}`), ` ${file.name}`);
  const parts = [head, element("p", told.words), element("p", `${told.digest} · ${told.size.toLocaleString("en")} bytes`, "quiet digest")];
  if (told.verification) {
    const list = element("ol", undefined, "steps");
    for (const step of told.verification.steps) {
      const line = element("li");
      line.append(element("span", step.ok ? "holds" : step.code, `standing ${step.ok ? "met" : "violated"}`), ` ${step.step}: ${step.detail}`);
      list.append(line);
    }
    parts.push(element("h3", "Every step"), list);
    for (const note of told.verification.notes) parts.push(element("p", note, "quiet"));
  }
  for (const origin of told.origins) {
    const line = element("p"), link = element("a", `${origin.kind} ${origin.digest.slice(7, 19)}`);
    link.href = origin.kind === "candidate" ? `/candidates/${origin.digest}` : origin.href;
    line.append(link, ` ${origin.relation}`);
    parts.push(line);
  }
  found.replaceChildren(...parts);
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
